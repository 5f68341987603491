package topics

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A history that cannot be read is tried again several times a second, for each
// who waits: the log has one line of it, and one a minute later.
func TestFailuresAreTold(t *testing.T) {
	synced(t, func(t *testing.T) {
		var log bytes.Buffer
		h := newFakeHistory(nil)
		cfg := historyConfig(h)
		cfg.RingMessages, cfg.Log = 2, slog.New(slog.NewTextHandler(&log, nil))
		r := newRig(t, cfg, 1)
		defer r.hub.Close()
		settle := func(err error) {
			for range 20 {
				for r.run(); h.answer(err); r.run() {
				}
				r.shards[0].members.Tick()
			}
		}
		c := r.connect(0, 0)
		c.wish("all.x", Want{})
		settle(nil)
		c.block(0)
		for range 5 {
			r.hub.Deliver([]Message{h.stream("all").store("all.x", []byte("1"))})
			r.run()
		}
		c.got = nil
		c.drain()
		wantLines := func(want int, text string) {
			t.Helper()
			if got := log.String(); strings.Count(got, "\n") != want || !strings.Contains(got, text) {
				t.Fatalf("the log says %q, want %d lines, and %q", got, want, text)
			}
		}
		settle(errFakeAway)
		wantLines(1, `namespace=all err="history is away" failures=1`)
		time.Sleep(tellEvery)
		settle(errFakeAway)
		wantLines(2, "failures=")
		if strings.HasSuffix(log.String(), "failures=1\n") {
			t.Errorf("the log says %q, and not how often it failed meanwhile", log.String())
		}
		settle(nil)
		c.wants("all.x 1", "all.x 1", "all.x 1", "all.x 1", "all.x 1")
		wantLines(2, "")
	})
}
