package load

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/google/go-cmp/cmp"

	"github.com/pushd/pushd/bench/load/internal/proctree"
	"github.com/pushd/pushd/bench/load/internal/stamp"
)

// faultyVariable in the environment makes the test binary a server, with these faults.
const faultyVariable = "PUSHD_BENCH_FAULTY"

// faulty is a server that does to each subscriber what it should not. It takes
// publications over TCP, as the peers do.
type faulty struct {
	faults string

	mu      sync.Mutex
	members []*faultyClient
	clients int // that ever connected
	history map[string][][]byte
}

type faultyClient struct {
	conn   net.Conn
	index  int
	topics []string
	held   [][]byte
}

// faultyMain serves until SIGTERM.
func faultyMain(faults string) {
	f := &faulty{faults: faults, history: map[string][][]byte{}}
	var listeners [2]net.Listener
	for i, serve := range []func(net.Conn) error{f.serveClient, f.servePublisher} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		listeners[i] = listener
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					if err := serve(conn); err != nil && !errors.Is(err, io.EOF) {
						fmt.Fprintln(os.Stderr, err)
					}
				}()
			}
		}()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Printf("listening ws=%s publish=%s\n", listeners[0].Addr(), listeners[1].Addr())
	<-stop
	os.Exit(0)
}

func (f *faulty) serveClient(conn net.Conn) error {
	if _, err := ws.Upgrade(conn); err != nil {
		return nil // Run tries the port before it sends anything
	}
	f.mu.Lock()
	c := &faultyClient{conn: conn, index: f.clients}
	f.clients++
	f.members = append(f.members, c)
	f.mu.Unlock()
	for {
		text, err := wsutil.ReadClientText(conn)
		if err != nil {
			return nil
		}
		var said struct{ Type, Topic, Cursor string }
		if err := json.Unmarshal(text, &said); err != nil {
			return err
		}
		f.mu.Lock()
		c.topics = append(c.topics, said.Topic)
		if !strings.Contains(f.faults, "mute") {
			answer := fmt.Appendf(nil, `{"type":"subscribed","topic":%q}`, said.Topic)
			if said.Cursor != "" && !strings.Contains(f.faults, "forget") {
				answer = bytes.Replace(answer, []byte("}"), []byte(`,"recovered":true}`), 1)
			}
			err = c.say(answer)
		}
		if said.Cursor != "" && !strings.Contains(f.faults, "forget") {
			err = errors.Join(err, f.replay(c, said.Topic, said.Cursor))
		}
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// replay delivers what came after a cursor, which is the stamp of a message.
func (f *faulty) replay(c *faultyClient, topic, cursor string) error {
	from, n := stamp.Find([]byte(faultyCursor + cursor))
	if n == 0 {
		return fmt.Errorf("%q is no cursor", cursor)
	}
	for _, payload := range f.history[topic] {
		if m, _ := stamp.Find(payload); m.Sequence > from.Sequence {
			if err := f.deliver(c, m.Sequence, payload); err != nil {
				return err
			}
		}
	}
	return nil
}

// faultyCursor is what stands before a cursor.
const faultyCursor = "@pb1:"

func (c *faultyClient) say(text []byte) error { return wsutil.WriteServerText(c.conn, text) }

func (f *faulty) servePublisher(conn net.Conn) error {
	in := bufio.NewReader(conn)
	for {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); err != nil {
			return err
		}
		rest := make([]byte, size)
		if _, err := io.ReadFull(in, rest); err != nil {
			return err
		}
		topic, payload := string(rest[1:1+rest[0]]), rest[1+rest[0]:]
		m, n := stamp.Find(payload)
		if n == 0 {
			return fmt.Errorf("no stamp in %q", payload)
		}
		f.mu.Lock()
		f.history[topic] = append(f.history[topic], payload)
		for _, c := range f.members {
			if slices.Contains(c.topics, topic) {
				// A client that has gone is found by its reader.
				_ = f.deliver(c, m.Sequence, payload)
			}
		}
		f.mu.Unlock()
	}
}

// deliver plays the faults, each at a message of its own.
func (f *faulty) deliver(c *faultyClient, sequence uint32, payload []byte) error {
	has := func(fault string, at uint32) bool { return strings.Contains(f.faults, fault) && sequence == at }
	switch {
	case has("lose", 3), has("lose", 4):
		return nil
	case has("announce", 4):
		return c.say([]byte(`{"type":"gap","reason":"slow"}`))
	case has("twice", 6):
		return errors.Join(c.say(payload), c.say(payload))
	case has("reorder", 8):
		c.held = append(c.held, slices.Clone(payload))
		return nil
	case has("stray", 9):
		stray, _ := stamp.Find(payload)
		stray.Topic += 1000
		return errors.Join(c.say(payload), c.say(stray.Append(nil)))
	case has("foreign", 9):
		other, _ := stamp.Find(payload)
		other.Run++
		return errors.Join(c.say(payload), c.say(other.Append(nil)))
	case has("hang up", 10) && c.index == 0:
		return errors.Join(ws.WriteFrame(c.conn, ws.NewCloseFrame(ws.NewCloseFrameBody(4008, "slow"))), c.conn.Close())
	}
	err := c.say(payload)
	for _, held := range c.held {
		err = errors.Join(err, c.say(held))
	}
	c.held = nil
	return err
}

// Whatever a server does wrong is reported, and nothing else.
func TestFaults(t *testing.T) {
	const clients, messages = 6, 12
	whole := Counts{Expected: clients * messages, Received: clients * messages}
	f := func(faults string, change func(w *Window)) {
		t.Run(faults, func(t *testing.T) {
			t.Parallel()
			r := runFaulty(t, faults, Spec{Scenario: "fanout", Clients: clients, Rate: 500, Messages: messages})
			got, want := measured(t, r), Window{Steady: whole, Problems: map[string]int{}}
			change(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if r.Connections.Open != clients || r.Connections.Lost != want.Lost {
				t.Errorf("%+v", r.Connections)
			}
		})
	}
	f("none", func(*Window) {})
	f("mute", func(*Window) {}) // confirms no subscription
	f("lose", func(w *Window) { w.Steady.Missing, w.Steady.Received = 2*clients, 10*clients })
	f("announce", func(w *Window) {
		w.Steady.Missing, w.Steady.Received, w.Steady.Gaps = clients, 11*clients, clients
	})
	f("twice", func(w *Window) { w.Steady.Duplicate = clients })
	f("reorder", func(w *Window) { w.Steady.OutOfOrder = clients })
	f("stray", func(w *Window) { w.Steady.Unwanted = clients })
	f("foreign", func(w *Window) { w.Foreign = clients })
	f("lose, twice, reorder", func(w *Window) {
		w.Steady = Counts{Expected: 12 * clients, Received: 10 * clients, Missing: 2 * clients, Duplicate: clients, OutOfOrder: clients}
	})
	f("hang up", func(w *Window) {
		w.Steady.Missing, w.Steady.Received = 3, whole.Received-3
		w.Lost, w.Problems = 1, map[string]int{"lost: close frame with code 4008": 1}
	})
}

// In flight mode goes on where a message never arrives everywhere.
func TestFaultsInFlight(t *testing.T) {
	t.Parallel()
	r := runFaulty(t, "lose", Spec{Scenario: "fanout", Clients: 4, InFlight: 1, Messages: 8})
	w := r.Window("fanout")
	if w.Overdue != 2 || w.Steady.Missing != 8 || w.Steady.Received != 6*4 || w.Published != 8 {
		t.Errorf("%d overdue, %+v of %d messages", w.Overdue, w.Steady, w.Published)
	}
	if w.Last.Count != 6 {
		t.Errorf("%d messages reached all subscribers, want 6", w.Last.Count)
	}
}

// runFaulty plays a scenario without a warm-up, since faults come at the first
// messages.
func runFaulty(t *testing.T, faults string, spec Spec) *Result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec.Target = Pushd("ws://{ws}/ws", "tcp://{publish}")
	spec.Target.CursorMark = faultyCursor
	if strings.Contains(faults, "mute") {
		spec.Target.SubscribedMark = ""
	}
	spec.Server.Start = fmt.Sprintf("%s='%s' exec '%s'", faultyVariable, faults, self)
	spec.Duration, spec.Settle, spec.Patience = testTimeout, 1, patience
	spec.skipWarmUp = true
	r, err := Run(testContext(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	checkEnded(t, &r)
	return &r
}

// measured returns what of the measured window is the same in each run.
func measured(t *testing.T, r *Result) Window {
	t.Helper()
	w := r.Window(r.Scenario)
	if w == nil {
		t.Fatalf("no window %q", r.Scenario)
	}
	return Window{Steady: w.Steady, Others: w.Others, Foreign: w.Foreign, Lost: w.Lost, Problems: w.Problems}
}

// checkEnded says that no worker is left.
func checkEnded(t *testing.T, r *Result) {
	t.Helper()
	if len(r.Connections.Workers) == 0 {
		t.Error("there were no workers")
	}
	if alive := proctree.Alive(r.Connections.Workers); len(alive) > 0 {
		t.Errorf("workers %v still run", alive)
	}
}
