package console_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/internal/server"
)

func TestMain(m *testing.M) {
	natstest.Main()
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come; nothing waits so long
// unless it fails.
const patience = 30 * time.Second

// node is a pushd whose console is tested.
type node struct {
	*server.Server
	t    *testing.T
	stop func()
}

// start runs one on free ports until the test ends, or stop is called.
func start(t *testing.T, change ...func(*config.Config)) *node {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.NATSListen, cfg.Store, cfg.Shards = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "memory", 2
	cfg.NodeName = "alpha"
	for _, f := range change {
		f(&cfg)
	}
	var log io.Writer = io.Discard
	if testing.Verbose() {
		log = t.Output()
	}
	s, err := server.New(cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	n := &node{Server: s, t: t}
	n.stop = func() {
		cancel()
		err := <-ended
		if ended <- nil; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(n.stop)
	return n
}

// console is where its page lies, with a view.
func (n *node) console(view string) string { return "http://" + n.AdminAddr() + "/console/#/" + view }

// publisher is a backend.
func (n *node) publisher() *nats.Conn {
	n.t.Helper()
	nc, err := nats.Connect(n.NATSURL())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(nc.Close)
	return nc
}

// client is a subscriber of the public listener that reads all it gets.
type client struct {
	name   string // that the server gave it
	closed chan ws.StatusCode
}

// subscribe opens one. It has its subscriptions when this returns.
func (n *node) subscribe(query string) *client {
	n.t.Helper()
	dialer := ws.Dialer{Timeout: patience}
	conn, early, _, err := dialer.Dial(context.Background(), "ws://"+n.Addr()+"/ws?"+query)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
	var from io.ReadWriter = conn
	if early != nil {
		from = struct {
			io.Reader
			io.Writer
		}{io.MultiReader(io.LimitReader(early, int64(early.Buffered())), conn), conn}
	}
	c := &client{closed: make(chan ws.StatusCode, 1)}
	named := make(chan string, 1)
	go func() {
		for {
			text, err := wsutil.ReadServerText(from)
			if err != nil {
				var closed wsutil.ClosedError
				errors.As(err, &closed)
				conn.Close()
				c.closed <- closed.Code
				return
			}
			if _, name, ok := strings.Cut(string(text), `"client":"`); ok {
				name, _, _ = strings.Cut(name, `"`)
				named <- name
			}
		}
	}()
	select {
	case c.name = <-named:
	case <-time.After(patience):
		n.t.Fatal("no welcome")
	}
	return c
}

// wantClosed waits for the server to close the connection with a code.
func (c *client) wantClosed(t *testing.T, code ws.StatusCode) {
	t.Helper()
	select {
	case got := <-c.closed:
		if got != code {
			t.Errorf("closed with %d, want %d", got, code)
		}
	case <-time.After(patience):
		t.Fatal("the connection stays open")
	}
}

// publishUntil publishes a hundred messages a second, about.
func publishUntil(nc *nats.Conn, stop <-chan struct{}) error {
	for {
		if err := nc.Publish("push.stocks.AAPL", []byte("1")); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// text is the JavaScript for the text of the first element that a selector finds.
func text(selector string) string {
	return fmt.Sprintf("document.querySelector(%q).textContent", selector)
}

// tile is the JavaScript for what a tile of the overview says.
func tile(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#tiles div")].find((d) => d.firstChild.textContent === %q).children[1].textContent`, name)
}

// eventually waits for a condition.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came to that")
		}
	}
}

// subscribedTo asks whether somebody is subscribed to exactly that.
func subscribedTo(t *testing.T, n *node, pattern string) bool {
	t.Helper()
	resp, err := http.Get("http://" + n.AdminAddr() + "/connections?pattern=" + pattern)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(body), `"client"`)
}
