package main

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pushd/pushd/bench/load"
)

// goodResult is a run of fanout in which all is well.
func goodResult(costOfEach, last float64) load.Result {
	r := load.Result{Scenario: "fanout", Connections: load.Connections{Wanted: 2, Open: 2}}
	for _, name := range []string{"connect", "fanout"} {
		r.Windows = append(r.Windows, &load.Window{Name: name, Seconds: 1, Published: 5, Steady: load.Counts{Expected: 10, Received: 10}})
	}
	for _, key := range []string{"server_user_us_per_delivery", "deliveries_per_read", "latency_p99"} {
		r.Figures = append(r.Figures, load.Figure{Key: key, Value: 0.25})
	}
	r.Figures = append(r.Figures, load.Figure{Key: "server_us_per_delivery", Value: costOfEach}, load.Figure{Key: "last_p99", Value: last})
	return r
}

func findMeasure(t *testing.T, name string) measure {
	t.Helper()
	for _, m := range measures() {
		if m.name == name {
			return m
		}
	}
	t.Fatalf("there is no measure %q", name)
	return measure{}
}

func TestFaults(t *testing.T) {
	fanout, slow := findMeasure(t, "fanout"), findMeasure(t, "slow")
	slow.columns = fanout.columns // what it tolerates, with the figures of goodResult
	for _, test := range []struct {
		name    string
		measure measure
		broken  func(*load.Result)
		err     error
		want    string // in the only fault; empty: none
	}{
		{"all is well", fanout, func(*load.Result) {}, nil, ""},
		{"missing at last", fanout, func(r *load.Result) { r.Windows[1].Steady.Missing = 3 }, nil, `3 messages were missing in "fanout"`},
		{"missing before", fanout, func(r *load.Result) { r.Windows[0].Steady.Missing = 1 }, nil, `1 messages were missing in "connect"`},
		{"twice", fanout, func(r *load.Result) { r.Windows[1].Steady.Duplicate = 2 }, nil, "2 messages came twice"},
		{"out of order", fanout, func(r *load.Result) { r.Windows[1].Steady.OutOfOrder = 2 }, nil, "2 messages came out of order"},
		{"overdue", fanout, func(r *load.Result) { r.Windows[1].Overdue = 1 }, nil, "in time"},
		{"lost connections", fanout, func(r *load.Result) { r.Windows[1].Lost = 4 }, nil, "4 connections were lost"},
		{"connections that may be ended", slow, func(r *load.Result) { r.Windows[1].Lost = 4 }, nil, ""},
		{"who stalls may miss", slow, func(r *load.Result) { r.Windows[1].Others.Missing = 4 }, nil, ""},
		{"no connection", fanout, func(r *load.Result) {
			r.Connections.Open = 1
			r.Windows[0].Problems = map[string]int{"refused": 1}
		}, nil, "1 clients had no connection: map[refused:1]"},
		{"failed attempts", fanout, func(r *load.Result) { r.Connections.Failed = 1 }, nil, "1 attempts"},
		{"nothing arrived", fanout, func(r *load.Result) { r.Windows[0].Steady, r.Windows[1].Steady = load.Counts{}, load.Counts{} }, nil, "nothing of what"},
		{"no figure", fanout, func(r *load.Result) { r.Figures = r.Figures[:len(r.Figures)-1] }, nil, "no figure"},
		{"did not run", fanout, func(*load.Result) {}, errors.New("it ended by itself"), "it ended by itself"},
	} {
		r := goodResult(1, 1)
		test.broken(&r)
		got := newOutcome(test.measure, r, test.err).faults
		if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
			t.Errorf("%s: faults %q, want %q", test.name, got, test.want)
		}
	}
}

// threeServers is a comparison of two rounds of fanout in which pushd costs half of the floor.
func threeServers(t *testing.T) *comparison {
	t.Helper()
	c := &comparison{
		rounds: 2, shrink: 1, measures: "fanout", dir: t.TempDir(), out: filepath.Join(t.TempDir(), "RESULTS.md"), progress: io.Discard,
		servers:  []server{{name: "floor"}, {name: "pushd-uring"}, {name: "gws", library: "example"}, {name: "nbio", library: "example"}},
		outcomes: make(map[outcomeKey]map[int]*outcome),
	}
	m := findMeasure(t, "fanout")
	for i, s := range c.servers {
		for round := range c.rounds {
			scale := float64(round + 1) // the machine is slower in the second round
			cost, last := []float64{4, 2, 6, 8}[i], []float64{10, 20, 50, 40}[i]
			c.record(m, s, round, newOutcome(m, goodResult(cost*scale, last*scale), nil))
		}
	}
	return c
}

func findGoal(t *testing.T, g goal) goal {
	t.Helper()
	for _, have := range goals() {
		if have.measure == g.measure && have.server == g.server && have.of == g.of {
			return have
		}
	}
	t.Fatalf("there is no goal like %+v", g)
	return goal{}
}

func TestGoals(t *testing.T) {
	ofFloor := findGoal(t, goal{measure: "fanout", server: "pushd-uring", of: theFloor})
	ofPeer := findGoal(t, goal{measure: "fanout", server: "pushd-uring", of: bestPeer})
	judged := func(c *comparison, g goal, measured, reached string) {
		t.Helper()
		if gotMeasured, gotReached := c.judge(g); gotMeasured != measured || gotReached != reached {
			t.Errorf("measured %q, reached %q; want %q, %q", gotMeasured, gotReached, measured, reached)
		}
	}
	c := threeServers(t)
	judged(c, ofFloor, "0.500 (0.500–0.500)", "yes") // round by round, so that a slow round is none
	judged(c, ofPeer, "0.500 (0.500–0.500), nbio", "yes")
	c.shrink = 10
	judged(c, ofFloor, "0.500 (0.500–0.500)", "not judged: too few clients")

	c = threeServers(t)
	c.outcomes[outcomeKey{"fanout", "floor"}][0].faults = []string{"x"} // then the round has no ratio
	judged(c, ofFloor, "0.500", "yes")
	c.outcomes[outcomeKey{"fanout", "pushd-uring"}][1].faults = []string{"x"}
	judged(c, ofFloor, "–", "no: see what went wrong")
	judged(c, ofPeer, "0.500, nbio", "no: see what went wrong")
	judged(c, findGoal(t, goal{measure: scaleMeasure, server: simulation}), "not measured", "–")
}

// A run that lost messages has no figures, and the result says so where one looks.
func TestFaultsAreShown(t *testing.T) {
	c := threeServers(t)
	if err := c.write(); err != nil {
		t.Fatal(err)
	}
	if text := c.markdown(nil); strings.Contains(text, "wrong") || c.verdict() != nil {
		t.Errorf("all is well, but the verdict is %v and the result\n%s", c.verdict(), text)
	}

	m := findMeasure(t, "fanout")
	r := goodResult(0.001, 1)
	r.Windows[1].Steady.Missing = 7
	c.record(m, c.servers[3], 0, newOutcome(m, r, nil))
	text := c.markdown(nil)
	for _, want := range []string{"## What went wrong", "fanout, nbio, round 1: 7 messages were missing", "| nbio, **wrong in 1 of 2** | 16.0 | 2.00 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the result does not say %q:\n%s", want, text)
		}
	}
	if err := c.verdict(); err != nil {
		t.Errorf("a peer that loses messages fails the run: %v", err)
	}
	c.record(m, c.servers[1], 0, newOutcome(m, r, nil))
	if err := c.verdict(); err == nil || !strings.Contains(err.Error(), "pushd-uring, round 1: 7 messages") {
		t.Errorf("pushd lost messages, and the verdict is %v", err)
	}
}

func TestParseScale(t *testing.T) {
	const text = "scale -n 1000000\n\n| figure | value |\n| --- | --- |\n| resident memory | 71.7 MB, 72 bytes each |\n" +
		"| full garbage collection | 460µs CPU of the collector, 1.03ms elapsed |\n| one message to all, best of 5 | 18.7ms CPU, 18.6ms elapsed, 18.7 ns each |\n"
	// However times are spelled.
	for _, spelled := range []string{text, strings.NewReplacer("460µs", "0.46 ms", "18.7ms", "18.7 ms").Replace(text)} {
		figures, err := parseScale(spelled)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []float64{71.7, 0.46, 18.7} {
			if diff := figures[i].Value - want; diff > 1e-9 || diff < -1e-9 {
				t.Errorf("%s is %v %s, want %v", figures[i].Text, figures[i].Value, figures[i].Unit, want)
			}
		}
	}
	for _, wrong := range []string{"", strings.Replace(text, "18.7ms CPU", "18.7ms", 1), strings.Replace(text, "71.7 MB", "71.7 GB", 1), strings.Replace(text, "460µs", "little", 1)} {
		if figures, err := parseScale(wrong); err == nil {
			t.Errorf("%q is read as %v", wrong, figures)
		}
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for _, test := range []struct {
		c    comparison
		want string // in the error
	}{
		{comparison{rounds: 1, duration: 1, shrink: 1, measures: "fanout,scale"}, ""},
		{comparison{rounds: 1, duration: 1, shrink: 1, measures: "fanout,fan"}, `-measures: there is no "fan", but fanout,`},
		{comparison{duration: 1, shrink: 1}, "-rounds is 0"},
	} {
		if err := test.c.check(); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("-measures %q: %v, want %q", test.c.measures, err, test.want)
		}
	}
	c := comparison{only: "gorila", servers: []server{{name: "gorilla"}}}
	if err := c.checkServers(); err == nil || !strings.Contains(err.Error(), `-only: there is no "gorila"`) {
		t.Errorf("-only gorila: %v", err)
	}
}

func TestCommandLines(t *testing.T) {
	c := comparison{shrink: 1, duration: 4e9}
	if got, want := flags(c.spec(findMeasure(t, "inflight"), server{})), "fanout --clients 18000 --in-flight 16 --duration 4s --patience 20s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m := findMeasure(t, "deflate")
	if got, want := flags(c.spec(m, server{compresses: true})), "fanout --clients 10000 --in-flight 1 --payload 1024 --ticks --deflate --duration 4s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if c.spec(m, server{name: floorName}).Deflate || m.refusal(server{name: floorName}) != "" || m.refusal(server{name: "x"}) != "does not compress" {
		t.Error("who does not compress is measured as if he did, or the floor is not measured")
	}
	if m := findMeasure(t, "events"); m.refusal(server{name: "x"}) != "has no Server-Sent Events" || m.refusal(server{name: floorName}) != "" {
		t.Error("who has no events is measured as if he had, or the floor is not measured")
	}
	s := server{target: load.Pushd("ws://h/ws", "nats://h/push.{topic}"), start: "exec it's"}
	if got, want := flagsOf(s), `--url=ws://h/ws --publish='nats://h/push.{topic}' --start='exec it'\''s'`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
