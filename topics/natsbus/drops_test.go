package natsbus

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The log has a line for the first message of each reason, and one a minute for what
// comes then.
func TestDropLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		d := newDropLog(slog.New(slog.NewTextHandler(&text, nil)))
		said := func(want ...string) {
			t.Helper()
			lines := strings.Split(strings.TrimSpace(text.String()), "\n")
			text.Reset()
			for i, line := range lines {
				_, lines[i], _ = strings.Cut(line, "reason=")
			}
			if got := strings.Join(lines, "; "); got != strings.Join(want, "; ") {
				t.Errorf("it says %q, want %q", got, want)
			}
		}
		for range 3 {
			d.add(DropTooLarge, "push.a")
		}
		d.add(DropNotFromStream, "push.b")
		said("too_large messages=1 subject=push.a", "not_from_stream messages=1 subject=push.b")
		time.Sleep(dropPeriod - time.Second)
		d.add(DropTooLarge, "push.a")
		said("")
		time.Sleep(time.Second)
		d.add(DropTooLarge, "push.c")
		said("too_large messages=4 subject=push.c")
	})
}

// A bus has the line for each of the reasons.
func TestDropsAreLogged(t *testing.T) {
	var text bytes.Buffer
	b, err := Open(t.Context(), Config{Listen: "127.0.0.1:0", MaxMessage: 10, Streams: map[string]StreamConfig{"scores": {Messages: 10}},
		Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	b.Start(r)
	mustSubscribe(t, b, namespace("scores"))
	mustSubscribe(t, b, namespace("ns"))
	nc := client(t, b.ClientURL())
	for range 2 {
		outside(t, nc, "push.ns.a!", "")
		outside(t, nc, "push.ns.a", "much too large")
		outside(t, nc, "push-live.scores.a", "bare")
	}
	outside(t, nc, "push.ns.a", "last")
	r.awaitMessage(t, "last")
	eventually(t, "all were dropped", func() bool { return b.State().Dropped[DropNotFromStream] == 2 })
	if err := b.Close(); err != nil { // from here on nothing is logged
		t.Fatal(err)
	}
	for _, want := range []string{"invalid_topic messages=1 subject=push.ns.a!\n", "too_large messages=1 subject=push.ns.a\n", "not_from_stream messages=1 subject=push-live.scores.a\n"} {
		if strings.Count(text.String(), `level=WARN msg="messages dropped" reason=`+want) != 1 {
			t.Errorf("it does not have %q once: %s", want, &text)
		}
	}
}
