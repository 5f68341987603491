package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pushd/pushd/bench/load"
)

// outcomeKey is a measure and a server, by their names.
type outcomeKey struct{ measure, server string }

// outcome is what one run found, or what kept its figures from meaning anything.
type outcome struct {
	result load.Result
	faults []string
}

// newOutcome judges a run. A server that loses messages may well be cheap; so its
// figures do not count.
func newOutcome(m measure, result load.Result, err error) *outcome {
	o := &outcome{result: result}
	if err != nil {
		o.faults = []string{err.Error()}
		return o
	}
	fault := func(n int, format string, args ...any) {
		if n > 0 {
			o.faults = append(o.faults, fmt.Sprintf("%d "+format, append([]any{n}, args...)...))
		}
	}
	published, received := 0, uint64(0)
	for _, w := range result.Windows {
		published += w.Published
		received += w.Steady.Received
		fault(int(w.Steady.Missing), "messages were missing in %q", w.Name)
		fault(int(w.Steady.Duplicate), "messages came twice in %q", w.Name)
		fault(int(w.Steady.OutOfOrder), "messages came out of order in %q", w.Name)
		fault(w.Overdue, "messages were not with all subscribers in time in %q", w.Name)
		if !m.cutsOff {
			fault(w.Lost, "connections were lost in %q", w.Name)
		}
	}
	fault(result.Connections.Failed, "attempts to connect failed: %v", problems(&result))
	if result.Window("connect") != nil { // else they come and go
		fault(result.Connections.Wanted-result.Connections.Open, "clients had no connection: %v", problems(&result))
	}
	if published > 0 && received == 0 {
		o.faults = append(o.faults, "nothing of what was published arrived")
	}
	for _, col := range m.columns {
		if _, ok := col.figure(&result); !ok && !col.optional {
			o.faults = append(o.faults, fmt.Sprintf("there is no figure for %q", col.title))
		}
	}
	return o
}

// problems is what went wrong with connections, over all windows.
func problems(r *load.Result) map[string]int {
	sum := make(map[string]int)
	for _, w := range r.Windows {
		for what, n := range w.Problems {
			sum[what] += n
		}
	}
	return sum
}

// byRound is a figure in the rounds in which it counts.
type byRound map[int]float64

func (c *comparison) record(m measure, s server, round int, o *outcome) {
	key := outcomeKey{m.name, s.name}
	if c.outcomes[key] == nil {
		c.outcomes[key] = make(map[int]*outcome)
	}
	c.outcomes[key][round] = o
}

// values is a figure of one server in all rounds in which nothing was wrong.
func (c *comparison) values(measure, server string, figure figure) byRound {
	values := make(byRound)
	for round, o := range c.outcomes[outcomeKey{measure, server}] {
		if len(o.faults) > 0 {
			continue
		}
		if v, ok := figure(&o.result); ok {
			values[round] = v
		}
	}
	return values
}

// over divides by the other's value of the same round, where it has one.
func (values byRound) over(other byRound) byRound {
	quotients := make(byRound)
	for round, v := range values {
		if of := other[round]; of > 0 {
			quotients[round] = v / of
		}
	}
	return quotients
}

// median, least and most of values, of which there has to be one.
func (values byRound) spread() (median, least, most float64) {
	sorted := slices.Sorted(maps.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]
}

// faults is what went wrong with the servers that of takes, in the order of the tables; nil takes all.
func (c *comparison) faults(of func(server string) bool) (lines []string) {
	for _, m := range measures() {
		for _, s := range c.serversOf(m) {
			rounds := c.outcomes[outcomeKey{m.name, s.name}]
			for _, round := range slices.Sorted(maps.Keys(rounds)) {
				for _, fault := range rounds[round].faults {
					if of == nil || of(s.name) {
						lines = append(lines, fmt.Sprintf("%s, %s, round %d: %s", m.name, s.name, round+1, fault))
					}
				}
			}
		}
	}
	return lines
}

// ours says whether a fault of a server is one of this project: a peer that
// loses messages is a finding.
func (c *comparison) ours(name string) bool {
	return name == simulation || slices.ContainsFunc(c.servers, func(s server) bool { return s.name == name && s.library == "" })
}

// verdict is an error where something of this project did not do what was measured.
func (c *comparison) verdict() error {
	if faults := c.faults(c.ours); len(faults) > 0 {
		return fmt.Errorf("%d faults, the first: %s; see %s", len(faults), faults[0], c.out)
	}
	return nil
}

func (o *outcome) faulty() bool { return len(o.faults) > 0 }
