package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/wire"
)

func feedArgs(server *publisher, args ...string) []string {
	return append([]string{"feed", "--server", server.URL}, args...)
}

// summary makes the summary of a feed comparable.
func summary(stderr string) string {
	return regexp.MustCompile(`in \S+ \(\d+/s\)`).ReplaceAllString(stderr, "in T")
}

func TestFeed(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "stocks.csv", "symbol,price\nAAPL,187.2\nMSFT,430\n")
	writeFile(t, "chat.ndjson", "{\"room\":\"lobby\",\"text\":\"hi\"}\n")
	for _, test := range []struct {
		stdin string
		args  []string
		want  []string
	}{
		{"", []string{"--topic=stocks.{symbol}", "stocks.csv"}, []string{`stocks.AAPL {"symbol":"AAPL","price":187.2}`, `stocks.MSFT {"symbol":"MSFT","price":430}`}},
		{"", []string{"--topic=chat.{room}", "chat.ndjson"}, []string{`chat.lobby {"room":"lobby","text":"hi"}`}},
		{"one\ntwo", []string{"--topic=log", "-"}, []string{`log "one"`, `log "two"`}},
		{"s\nx", []string{"--topic=a.{s}", "--format=csv", "--rate=1000", "-"}, []string{`a.x {"s":"x"}`}},
		{"", []string{"--topic=log", "-"}, nil},
	} {
		server := newPublisher(t, nil)
		got := runWith(testContext(t), test.stdin, feedArgs(server, test.args...)...)
		if want := fmt.Sprintf("pushd: %d records published in T, 0 refused\n", len(test.want)); got.code != 0 || got.stdout != "" || summary(got.stderr) != want {
			t.Errorf("%q: %+v", test.args, got)
		}
		if messages := server.got(); !slices.Equal(messages, test.want) {
			t.Errorf("%q: the server got %q", test.args, messages)
		}
	}
}

// Many records go in few requests, in order.
func TestFeedBatches(t *testing.T) {
	const count = 20_000
	var input strings.Builder
	var want []string
	for i := range count {
		fmt.Fprintf(&input, "%d\n", i)
		want = append(want, fmt.Sprintf("n %d", i))
	}
	server := newPublisher(t, nil)
	if got := runWith(testContext(t), input.String(), feedArgs(server, "--topic=n", "-")...); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if !slices.Equal(server.got(), want) {
		t.Errorf("the server got %d messages of %d, or in another order", len(server.got()), count)
	}
	if server.requests < count/maxBatch || server.requests > count/10 {
		t.Errorf("%d requests for %d records", server.requests, count)
	}
}

// A record that cannot be published ends the feed, after those before it.
func TestFeedBadRecord(t *testing.T) {
	for _, test := range []struct{ args, stdin, wantErr, wantMessages string }{
		{"--topic=a.{s}", "s\nx\nb c\ny\n", `-: record 2: its field "s" is "b c", which cannot be a token of a topic: only A-Z a-z 0-9 _ - can`, `a.x {"s":"x"}`},
		{"--topic=a.{t}", "s\nx\n", `-: record 1: it has no field "t", but s`, ""},
		{"--topic=a.{s}", "{\"s\":1}\n{}\n", `-: record 2: it has no field "s"`, `a.1 {"s":1}`},
		{"--topic=a.{s}", "", `-: has no header, which a CSV must start with`, ""},
	} {
		server := newPublisher(t, nil)
		got := runWith(testContext(t), test.stdin, feedArgs(server, test.args, "-")...)
		want := fmt.Sprintf("pushd: %d records published in T, 0 refused\npushd: %s\n", len(server.got()), test.wantErr)
		if got.code != 1 || summary(got.stderr) != want {
			t.Errorf("%q\ngot  %d %q\nwant 1 %q", test.stdin, got.code, summary(got.stderr), want)
		}
		if messages := strings.Join(server.got(), "\n"); messages != test.wantMessages {
			t.Errorf("%q: the server got %q", test.stdin, messages)
		}
	}
}

// What the server refuses is told, and does not stop the rest.
func TestFeedRefused(t *testing.T) {
	server := newPublisher(t, nil)
	got := runWith(testContext(t), "ns\na\nforbidden\nb\n", feedArgs(server, "--topic={ns}.x", "-")...)
	want := `pushd: record 2 (forbidden.x) refused: forbidden: not for you
pushd: 2 records published in T, 1 refused
pushd: the server refused some records
`
	if got.code != 1 || summary(got.stderr) != want {
		t.Errorf("%d %q", got.code, got.stderr)
	}

	many := strings.Repeat("forbidden\n", 25)
	got = runWith(testContext(t), "ns\n"+many, feedArgs(server, "--topic={ns}.x", "-")...)
	if n := strings.Count(got.stderr, " refused: "); n != 10 || !strings.Contains(got.stderr, ", 25 refused\n") {
		t.Errorf("%d of 25 refusals told: %s", n, got.stderr)
	}

	no := newPublisher(t, func(w http.ResponseWriter, _ []byte) bool {
		w.WriteHeader(http.StatusForbidden)
		w.Write(wire.AppendRefusal(nil, wire.Forbidden, "not for you"))
		return true
	})
	got = runWith(testContext(t), strings.Repeat("x\n", 100*maxBatch), feedArgs(no, "--topic=a", "-")...) // more than waits in between
	if want := "pushd: 0 records published in T, 0 refused\npushd: forbidden: not for you\n"; got.code != 1 || summary(got.stderr) != want || no.requests != 1 {
		t.Errorf("%d requests, %+v", no.requests, got)
	}
}

// A batch that meets a fault which may pass is posted again, as a whole or
// what is left of it.
func TestPosterRetries(t *testing.T) {
	hangUp := func(w http.ResponseWriter) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	for name, fault := range map[string]func(w http.ResponseWriter){
		"connection":  hangUp,
		"unavailable": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"one line": func(w http.ResponseWriter) {
			w.Write(append(wire.AppendResult(nil, "a", ""), '\n'))
			w.Write(append(wire.AppendFailure(nil, "b", wire.Unavailable, "NATS is away"), '\n'))
		},
		"cut answer": func(w http.ResponseWriter) { w.Write(append(wire.AppendResult(nil, "a", ""), '\n')) },
		"no answer":  func(w http.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			faults := 3
			server := newPublisher(t, func(w http.ResponseWriter, _ []byte) bool {
				if faults == 0 {
					return false
				}
				faults--
				fault(w)
				return true
			})
			var notes output
			p := newPoster(server.URL+"/publish", server.Client(), tokenFlags{}, program{stderr: &notes}.notef)
			p.backoff = pushd.Backoff{Min: 1, Max: 1}
			batch := []record{{number: 1, topic: "a", data: []byte("1")}, {number: 2, topic: "b", data: []byte("2")}}
			if err := p.publish(testContext(t), batch); err != nil {
				t.Fatal(err)
			}
			if p.published != 2 || p.refused != 0 {
				t.Errorf("%d published, %d refused, of 2", p.published, p.refused)
			}
			if !strings.Contains(notes.String(), "; trying again in ") {
				t.Errorf("nothing told of the fault: %q", notes.String())
			}
		})
	}
}

// A batch of which the answer was lost is known again by its keys, also in part.
func TestPosterKeys(t *testing.T) {
	for _, lost := range []string{"all", "some"} {
		t.Run(lost, func(t *testing.T) {
			var server *publisher
			faults := 2
			server = newPublisher(t, nil)
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if faults--; faults < 0 {
					server.many(w, r)
					return
				}
				server.many(httptest.NewRecorder(), r) // it is published, and the answer lost
				if lost == "some" {
					w.Write(append(wire.AppendResult(nil, "a", "c.0"), '\n'))
				}
			})
			p := newPoster(server.URL+"/publish", server.Client(), tokenFlags{}, program{stderr: io.Discard}.notef)
			p.backoff = pushd.Backoff{Min: 1, Max: 1}
			for range 2 {
				if err := p.publish(testContext(t), []record{{topic: "a", data: []byte("1")}, {topic: "a", data: []byte("1")}, {topic: "b", data: []byte("2")}}); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := server.got(), []string{"a 1", "a 1", "b 2", "a 1", "a 1", "b 2"}; !slices.Equal(got, want) || server.twice == 0 {
				t.Errorf("published %q, of which %d came twice; want %q", got, server.twice, want)
			}
		})
	}
}

// A fault that lasts ends the feed.
func TestPosterGivesUp(t *testing.T) {
	server := newPublisher(t, func(w http.ResponseWriter, _ []byte) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write(wire.AppendRefusal(nil, wire.Unavailable, "NATS is away"))
		return true
	})
	p := newPoster(server.URL+"/publish", server.Client(), tokenFlags{}, program{stderr: io.Discard}.notef)
	p.backoff = pushd.Backoff{Min: 1, Max: 1}
	p.giveUp = time.Millisecond
	err := p.publish(testContext(t), []record{{topic: "a", data: []byte("1")}})
	if err == nil || err.Error() != "unavailable: NATS is away" {
		t.Errorf("got %v", err)
	}
}

// A loop goes on until it is interrupted, which is no failure.
func TestFeedLoop(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "a.csv", "s\nx\ny\n")
	writeFile(t, "empty.csv", "s\n")
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	var messages atomic.Int32
	server := newPublisher(t, func(_ http.ResponseWriter, body []byte) bool {
		if messages.Add(int32(strings.Count(string(body), "\n"))) > 1000 {
			stop()
		}
		return false
	})
	if got := runWith(ctx, "", feedArgs(server, "--topic=a.{s}", "--loop", "a.csv")...); got.code != 0 {
		t.Errorf("%+v", got)
	}
	for i, message := range server.got() {
		if want := []string{`a.x {"s":"x"}`, `a.y {"s":"y"}`}[i%2]; message != want {
			t.Fatalf("message %d is %q, want %q", i, message, want)
		}
	}
	got := runWith(testContext(t), "", feedArgs(server, "--topic=a.{s}", "--loop", "empty.csv")...)
	if got.code != 1 || !strings.Contains(got.stderr, "pushd: empty.csv holds no records: there is nothing to loop over\n") {
		t.Errorf("%+v", got)
	}
}

// A feeder posts what is due, no more, and does not wait for a batch to fill.
func TestFeederPace(t *testing.T) {
	ctx := testContext(t)
	f := feeder{records: make(chan record, 10), pace: newPace(0.001)} // the next is due in 1,000 s
	for i := range 3 {
		f.records <- record{number: i}
	}
	if batch, err := f.collect(ctx, nil); err != nil || len(batch) != 1 || batch[0].number != 0 {
		t.Errorf("due at the start: %v, want the first record alone", batch)
	}
	if f.next == nil || f.next.number != 1 {
		t.Errorf("held back: %v, want the second", f.next)
	}

	f = feeder{records: make(chan record, 10), pace: newPace(0)}
	f.records <- record{number: 0}
	f.records <- record{number: 1}
	if batch, err := f.collect(ctx, nil); err != nil || len(batch) != 2 { // though the channel is open, and more may come
		t.Errorf("collected %d records, want the 2 that are there", len(batch))
	}

	f = feeder{records: make(chan record, 10), pace: newPace(0)}
	for i := range 3 {
		f.records <- record{number: i, data: make([]byte, maxBatchBytes/2)}
	}
	close(f.records)
	for _, want := range []int{2, 1, 0} {
		if batch, err := f.collect(ctx, nil); err != nil || len(batch) != want {
			t.Errorf("a batch of %d records, want %d", len(batch), want)
		}
	}
}
