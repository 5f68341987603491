package pushd_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/internal/server"
)

func TestMain(m *testing.M) {
	natstest.Main()
	serveMain()
	const atATime = "6" // tests: they wait far more than they compute, and -parallel goes before
	if err := flag.Set("test.parallel", atATime); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds whatever a test waits for. It is no expectation.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// node is a server under test, which can be stopped and started again.
type node struct {
	*server.Server
	t    testing.TB
	cfg  config.Config
	stop func()
}

// start runs a server on a free port, with NATS in its own process unless change
// says otherwise. Namespace kept has history, any other has none.
func start(t testing.TB, change ...func(*config.Config)) *node {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.NATSListen = "127.0.0.1:"+strconv.Itoa(natstest.FreePort(t)), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Store, cfg.Shards = "memory", 2
	kept := cfg.Default
	kept.Delivery, kept.History.Age = "all", time.Hour
	cfg.Namespaces = map[string]config.Namespace{"kept": kept}
	for _, f := range change {
		f(&cfg)
	}
	n := &node{t: t, cfg: cfg}
	n.run()
	t.Cleanup(func() { n.stop() })
	return n
}

// run starts the server, again where it was stopped.
func (n *node) run() {
	n.t.Helper()
	s, err := server.New(n.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		n.t.Fatalf("the server: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	n.Server = s
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Errorf("the server: %v", err)
		}
	})
}

func (n *node) url() string { return "http://" + n.cfg.Listen }

// events collects what a client tells.
type events struct {
	mu  sync.Mutex
	all []pushd.Event
}

func (e *events) add(event pushd.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// count returns how many events there were for which is says so.
func count[E pushd.Event](e *events, is func(E) bool) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if event, ok := event.(E); ok && (is == nil || is(event)) {
			n++
		}
	}
	return n
}

// connect makes a client that comes back at once.
func connect(t testing.TB, url string, change ...func(*pushd.Options)) (*pushd.Client, *events) {
	t.Helper()
	told := &events{}
	o := pushd.Options{Backoff: pushd.Backoff{Min: 5 * time.Millisecond, Max: 50 * time.Millisecond}, Events: told.add}
	for _, f := range change {
		f(&o)
	}
	c, err := pushd.New(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, told
}

// byEach runs a test once for each transport, with an option that has it alone.
func byEach(t *testing.T, test func(t *testing.T, alone func(*pushd.Options))) {
	t.Helper()
	t.Parallel()
	for _, transport := range []pushd.Transport{pushd.WebSocket, pushd.SSE, pushd.Poll} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			test(t, func(o *pushd.Options) { o.Transports = []pushd.Transport{transport} })
		})
	}
}

func subscribe(t testing.TB, c *pushd.Client, topic string, o pushd.SubscribeOptions) *pushd.Subscription {
	t.Helper()
	s, err := c.Subscribe(testContext(t), topic, o)
	if err != nil {
		t.Fatalf("subscribe to %s: %v", topic, err)
	}
	return s
}

func publish(t testing.TB, c *pushd.Client, topic string, n int) {
	t.Helper()
	if _, err := c.Publish(testContext(t), topic, strconv.AppendInt(nil, int64(n), 10), pushd.PublishOptions{}); err != nil {
		t.Errorf("publish %d to %s: %v", n, topic, err)
	}
}

// wantNumbers reads messages with the data first to last.
func wantNumbers(t testing.TB, s *pushd.Subscription, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		m, err := s.Next(testContext(t))
		if err != nil {
			t.Fatalf("waiting for %d of %v: %v", n, s.Positions(), err)
		}
		if string(m.Data) != strconv.Itoa(n) {
			t.Fatalf("%s = %s at %s, want %d", m.Topic, m.Data, m.Cursor, n)
		}
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// codeOf is the code of a refusal, or the error's text.
func codeOf(err error) string {
	var no *pushd.Error
	if errors.As(err, &no) {
		return string(no.Code)
	}
	return fmt.Sprint(err)
}
