package load

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keepsHistory makes a pushd keep the history of what is published.
func keepsHistory(t *testing.T, s *Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history.yaml")
	if err := os.WriteFile(path, []byte("namespaces: {bench: {delivery: all, history: {messages: 1000}}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Start += " --config '" + path + "'"
}

// checkCaughtUp says that clients resumed, and got what they had missed.
func checkCaughtUp(t *testing.T, w *Window, resumed, messages uint64) {
	t.Helper()
	if w.Resumed != resumed || w.Recovered != resumed {
		t.Errorf("%d resumed and %d recovered, want %d", w.Resumed, w.Recovered, resumed)
	}
	if c := w.CatchUp; messages > 0 && (c == nil || c.Messages != messages || c.Seconds <= 0) {
		t.Errorf("caught up: %+v, want %d messages", c, messages)
	}
}

// With history nobody misses anything in a storm, and those who stalled get all of it.
func TestHistory(t *testing.T) {
	t.Parallel()
	binary := buildPushd(t)
	for _, spec := range []Spec{
		{Scenario: "storm", Clients: 60, Topics: 10, Rate: 200},
		{Scenario: "slow", Clients: 20, SlowEvery: 4, Rate: 200, Payload: 20_000, Duration: 500 * time.Millisecond},
	} {
		t.Run(spec.Scenario, func(t *testing.T) {
			spec.Settle, spec.Patience = 50*time.Millisecond, 20*time.Second
			spec.Target, spec.Server = pushdServer(t, binary)
			spec.Command = []string{"pushbench", spec.Scenario}
			keepsHistory(t, &spec.Server)
			r, err := Run(testContext(t), spec)
			if err != nil {
				t.Fatal(err)
			}
			checkWhole(t, &r, spec)
			checkWritten(t, &r)
			if w := r.Window("storm"); w != nil {
				checkCaughtUp(t, w, 60, 0)
				if w.Steady.Away != 0 {
					t.Errorf("%d messages were missed by those who resumed", w.Steady.Away)
				}
			}
			if w := r.Window("stalled"); w != nil {
				if o := w.Others; o.Received != o.Expected || o.Gaps > 0 {
					t.Errorf("the stalled: %+v", o)
				}
				if w.CatchUp == nil || w.CatchUp.Messages == 0 {
					t.Errorf("nothing was left for the stalled: %+v", w.CatchUp)
				}
			}
		})
	}
}

// What a server does wrong with those who resume is nobody's absence.
func TestResumeFaults(t *testing.T) {
	const clients, missed = 6, 10
	whole := Counts{Expected: clients * missed, Received: clients * missed}
	f := func(faults string, recovered uint64, change func(c *Counts)) {
		t.Run(faults, func(t *testing.T) {
			t.Parallel()
			r := runFaulty(t, faults, Spec{Scenario: "resume", Clients: clients, Messages: missed})
			got, want := measured(t, r), Window{Steady: whole, Problems: map[string]int{}}
			change(&want.Steady)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if w := r.Window("resume"); w.Resumed != clients || w.Recovered != recovered {
				t.Errorf("%d resumed and %d recovered, want %d and %d", w.Resumed, w.Recovered, clients, recovered)
			}
			if v, ok := r.Figure("unrecovered"); !ok || v != float64(clients-recovered) {
				t.Errorf("%v were not recovered (%v), want %d", v, ok, clients-recovered)
			}
		})
	}
	f("none", clients, func(*Counts) {})
	f("forget", 0, func(c *Counts) { c.Missing, c.Received = c.Expected, 0 })
	f("lose, twice, reorder", clients, func(c *Counts) {
		*c = Counts{Expected: c.Expected, Received: 8 * clients, Missing: 2 * clients, Duplicate: clients, OutOfOrder: clients}
	})
}
