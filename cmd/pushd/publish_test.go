package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
)

// publisher is a server for what comes over HTTP: it speaks the wire protocol
// and remembers.
type publisher struct {
	*httptest.Server
	intercept func(w http.ResponseWriter, body []byte) bool // may answer instead; nil: never

	mu       sync.Mutex
	requests int
	messages []string       // topic, space, data
	keys     []string       // of messages
	places   map[string]int // of messages, by key
	twice    int            // messages whose key had come before, which are not among them
	store    bool           // answer with cursors, as a namespace with history does
}

func newPublisher(t *testing.T, intercept func(w http.ResponseWriter, body []byte) bool) *publisher {
	p := &publisher{intercept: intercept, places: make(map[string]int)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{topic}", p.one)
	mux.HandleFunc("POST /publish", p.many)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.messages...)
}

// take counts a request and returns its body, unless it was answered.
func (p *publisher) take(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	body, err := io.ReadAll(r.Body)
	p.mu.Lock()
	p.requests++
	p.mu.Unlock()
	return body, err == nil && (p.intercept == nil || !p.intercept(w, body))
}

// keep notes a message, if its key is new, and returns its cursor.
func (p *publisher) keep(message, key string) (cursor string) {
	if at, ok := p.places[key]; ok && key != "" {
		p.twice++
		return p.cursor(at)
	}
	p.places[key] = len(p.messages)
	p.messages, p.keys = append(p.messages, message), append(p.keys, key)
	return p.cursor(len(p.messages) - 1)
}

func (p *publisher) cursor(at int) string {
	if !p.store {
		return ""
	}
	return fmt.Sprintf("c.%d", at)
}

func (p *publisher) one(w http.ResponseWriter, r *http.Request) {
	body, ok := p.take(w, r)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	cursor := p.keep(r.PathValue("topic")+" "+string(body), r.Header.Get("Idempotency-Key"))
	w.WriteHeader(http.StatusAccepted)
	w.Write(wire.AppendResult(nil, r.PathValue("topic"), cursor))
}

func (p *publisher) many(w http.ResponseWriter, r *http.Request) {
	body, ok := p.take(w, r)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var parser wire.Parser
	for line := range strings.Lines(string(body)) {
		var pub wire.Publication
		err := parser.ParsePublication([]byte(strings.TrimSuffix(line, "\n")), &pub)
		switch {
		case err != nil:
			w.Write(append(wire.AppendFailure(nil, pub.Topic, err.Code, err.Message), '\n'))
		case topics.Namespace(pub.Topic) == "forbidden":
			w.Write(append(wire.AppendFailure(nil, pub.Topic, wire.Forbidden, "not for you"), '\n'))
		default:
			cursor := p.keep(strings.Clone(pub.Topic)+" "+string(pub.Data), strings.Clone(pub.Key))
			w.Write(append(wire.AppendResult(nil, pub.Topic, cursor), '\n'))
		}
	}
}

func TestPublish(t *testing.T) {
	server := newPublisher(t, nil)
	for _, test := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"chat.lobby", `{"text":"hi"}`}, `chat.lobby {"text":"hi"}`},
		{"ignored", []string{"chat.lobby", ""}, "chat.lobby "},
		{"from\x00stdin\n", []string{"chat.lobby"}, "chat.lobby from\x00stdin\n"}, // as it is
	} {
		before := len(server.got())
		got := runWith(testContext(t), test.stdin, append([]string{"publish", "--server", server.URL}, test.args...)...)
		if got != (result{}) {
			t.Errorf("%q: %+v, want silence", test.args, got)
		}
		if messages := server.got(); len(messages) != before+1 || messages[before] != test.want {
			t.Errorf("%q: the server got %q, want %q", test.args, messages[before:], test.want)
		}
	}
	t.Setenv("PUSHD_SERVER", server.URL)
	if got, want := runWith(testContext(t), "", "publish", "-v", "a.b", "x"), (result{0, "", "pushd: published to a.b\n"}); got != want {
		t.Errorf("with -v: %+v", got)
	}
}

func TestPublishRefused(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   string
	}{
		{400, `{"code":"invalid_topic","message":"no such place"}`, "pushd: invalid_topic: no such place\n"},
		{413, `{"code":"message_too_large","message":"65537 bytes, of at most 65536"}`, "pushd: message_too_large: 65537 bytes, of at most 65536\n"},
		{405, "<html>", "pushd: HTTP 405: Method Not Allowed\n"}, // from a proxy
		{404, "{}", "pushd: HTTP 404: Not Found\n"},
	} {
		server := newPublisher(t, func(w http.ResponseWriter, _ []byte) bool {
			w.WriteHeader(test.status)
			io.WriteString(w, test.body)
			return true
		})
		if got, want := runWith(testContext(t), "", "publish", "--server", server.URL, "a", "x"), (result{1, "", test.want}); got != want {
			t.Errorf("%d: %+v, want %+v", test.status, got, want)
		}
	}
}

// The cursor of a message that is stored is told, and a key that was used before
// publishes nothing.
func TestPublishWithKey(t *testing.T) {
	server := newPublisher(t, nil)
	server.store = true
	for _, args := range [][]string{{"--id=k"}, {"--id=k"}, {}, {}} {
		got := runWith(testContext(t), "", append([]string{"publish", "-v", "--server", server.URL, "a", "x"}, args...)...)
		want := fmt.Sprintf("pushd: published to a, stored at c.%d\n", len(server.got())-1)
		if got != (result{0, "", want}) {
			t.Errorf("%q: %+v, want %s", args, got, want)
		}
	}
	if len(server.got()) != 3 || server.keys[0] != "k" || server.keys[1] == server.keys[2] || wire.CheckKey(server.keys[1]) != nil {
		t.Errorf("%d messages with keys %q, want one for k and one for each call without", len(server.got()), server.keys)
	}
	got := runWith(testContext(t), "", "publish", "--server", server.URL, "--id=a b", "a", "x")
	if want := "pushd: --id: the idempotency key is \"a b\": it must be 1 to 128 visible ASCII characters, without spaces\n"; got != (result{1, "", want}) {
		t.Errorf("%+v", got)
	}
}

// A server that is away for a while is asked again, with the same key.
func TestPublishTriesAgain(t *testing.T) {
	away := 0
	server := newPublisher(t, func(w http.ResponseWriter, _ []byte) bool {
		if away--; away < 0 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write(wire.AppendRefusal(nil, wire.Unavailable, "NATS is away"))
		return true
	})
	server.store = true
	var notes output
	one := func(giveUp time.Duration) *singlePoster {
		return &singlePoster{url: server.URL + "/publish/a", key: "k", client: server.Client(), notef: program{stderr: &notes}.notef, giveUp: giveUp, backoff: pushd.Backoff{Min: 1, Max: 1}}
	}
	for range 2 {
		away = 3
		if stored, err := one(testTimeout).publish(testContext(t), []byte("x")); err != nil || stored != "c.0" {
			t.Errorf("stored at %q, %v", stored, err)
		}
	}
	if n := strings.Count(notes.String(), "unavailable: NATS is away; trying again in "); n != 6 || len(server.got()) != 1 || server.twice != 1 {
		t.Errorf("told %d times, %d messages, %d twice", n, len(server.got()), server.twice)
	}
	away = 1 << 30
	if _, err := one(0).publish(testContext(t), []byte("x")); err == nil || err.Error() != "unavailable: NATS is away" {
		t.Errorf("one that is away for ever: %v", err)
	}
}

func TestPublishUnreachable(t *testing.T) {
	server := newPublisher(t, nil)
	server.Close()
	got := runWith(testContext(t), "", "publish", "--server", server.URL, "a", "x")
	if got.code != 1 || !strings.HasPrefix(got.stderr, "pushd: cannot reach the server: dial tcp ") ||
		!strings.HasSuffix(got.stderr, " connection refused (is it running, and is --server right?)\n") {
		t.Errorf("%+v", got)
	}
}
