package server

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	natsgo "github.com/nats-io/nats.go"
)

// upgraded is a client that must not notice anything.
type upgraded struct {
	socket *socket
	json   bool

	// Guarded by mu.
	mu    sync.Mutex
	last  map[string]int
	wrong string
	half  bool          // of a frame has been sent
	pongs []byte        // that wait for the other half
	late  time.Duration // the longest from when a message was published until it came, since that was last taken
}

var numberedLine = regexp.MustCompile(`"f":"([a-z.]+)","n":(\d+),"t":(\d+)`)

// run reads until the test ends.
func (f *upgraded) run(ending *atomic.Bool) {
	for {
		h, err := ws.ReadHeader(f.socket.read)
		payload := make([]byte, max(0, h.Length))
		if err == nil {
			_, err = io.ReadFull(f.socket.read, payload)
		}
		if ending.Load() {
			return
		}
		f.mu.Lock()
		switch found := numberedLine.FindSubmatch(payload); {
		case err != nil:
			f.wrong = fmt.Sprint("the connection ended: ", err)
		case h.OpCode == ws.OpPing:
			f.pong(payload)
		case h.OpCode != ws.OpText:
			f.wrong = fmt.Sprintf("a frame %v %q", h.OpCode, payload)
		case found == nil && strings.Contains(string(payload), `"pong"`):
		case found == nil:
			f.wrong = fmt.Sprintf("was told %s", payload)
		default:
			f.take(string(found[1]), string(found[2]), string(found[3]))
		}
		wrong := f.wrong
		f.mu.Unlock()
		if wrong != "" {
			return
		}
	}
}

// take is called with mu held.
func (f *upgraded) take(feed, number, published string) {
	n, _ := strconv.Atoi(number)
	at, _ := strconv.ParseInt(published, 10, 64)
	if last, begun := f.last[feed]; begun && n != last+1 {
		f.wrong = fmt.Sprintf("%s: %d came after %d", feed, n, last)
	}
	f.last[feed] = n
	f.late = max(f.late, time.Since(time.Unix(0, at)))
}

// pong is called with mu held, so that it comes between no two halves of a frame.
func (f *upgraded) pong(payload []byte) {
	f.pongs = append(f.pongs, ws.MustCompileFrame(ws.MaskFrame(ws.NewPongFrame(payload)))...)
	f.flush()
}

func (f *upgraded) flush() {
	if f.half {
		return
	}
	if _, err := f.socket.conn.Write(f.pongs); err != nil && f.wrong == "" {
		f.wrong = fmt.Sprint("writing: ", err)
	}
	f.pongs = nil
}

// write sends half a frame, and then the other half.
func (f *upgraded) write(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.half = !f.half; !f.half {
		defer f.flush()
	}
	if !f.json { // it must not send commands
		return
	}
	if _, err := f.socket.conn.Write(p); err != nil {
		f.socket.t.Errorf("writing: %v", err)
	}
}

// crowdOfUpgraded are those that must not notice anything.
type crowdOfUpgraded []*upgraded

// late says how long messages took at the most to come to half of all, and to the last of all, since this was last asked.
func (all crowdOfUpgraded) late() string {
	var each []time.Duration
	for _, f := range all {
		f.mu.Lock()
		each = append(each, f.late)
		f.late = 0
		f.mu.Unlock()
	}
	slices.Sort(each)
	return fmt.Sprintf("%v for half of all, %v for the last", each[len(each)/2].Round(time.Millisecond), each[len(each)-1].Round(time.Millisecond))
}

// want waits until each has what was published.
func (all crowdOfUpgraded) want(t *testing.T, published map[string]int) {
	t.Helper()
	for deadline := time.Now().Add(5 * patience); ; time.Sleep(10 * time.Millisecond) {
		behind := 0
		for i, f := range all {
			f.mu.Lock()
			if f.wrong != "" {
				t.Fatalf("client %d (json: %v): %s", i, f.json, f.wrong)
			}
			for feed, n := range published {
				if f.last[feed] < n {
					behind++
				}
			}
			f.mu.Unlock()
		}
		if behind == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d lack messages", behind, len(all)*len(published))
		}
	}
}

// publishing sends to the feeds in turn until it is stopped, and says how many each had.
func publishing(t testing.TB, nc *natsgo.Conn, feeds []string, every time.Duration) (stop func() map[string]int) {
	var running sync.WaitGroup
	end, sent := make(chan struct{}), make(map[string]int)
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			feed := feeds[n%len(feeds)]
			sent[feed]++
			if err := nc.Publish("push."+feed, fmt.Appendf(nil, `{"f":%q,"n":%d,"t":%d}`, feed, sent[feed], time.Now().UnixNano())); err != nil {
				t.Error(err)
			}
		}
	})
	return sync.OnceValue(func() map[string]int {
		close(end)
		running.Wait()
		return sent
	})
}

// Connections of every kind, under traffic, are handed over several times and
// notice nothing: none is closed, nothing is lost, doubled or reordered. How many
// and how often is PUSHD_SOAK's to say.
func TestHotUpgrade(t *testing.T) {
	clients, upgrades, every := 300, 2, 10*time.Millisecond
	if soaking() {
		clients, upgrades, every = 10_000, 10, 500*time.Millisecond
	}
	u, nc := startUpgradableOn(t, "namespaces:\n  scores: {delivery: all, history: {age: 1h}}\n  user: {interest: topic}\n")
	feeds := []string{"scores.a", "chat.a", "user.a"}
	var all crowdOfUpgraded
	var reading sync.WaitGroup
	var ending atomic.Bool
	for i := range clients {
		f := &upgraded{json: i%2 == 0, last: make(map[string]int)}
		format := "raw"
		if f.json {
			format = "json"
		}
		f.socket = u.dial("format=" + format + "&topic=scores.>&topic=chat.*&topic=user.a")
		if f.json {
			for range 4 { // welcome, and three subscriptions
				f.socket.next()
			}
		}
		if err := f.socket.conn.SetDeadline(time.Time{}); err != nil { // who waits for all of them gives up
			t.Fatal(err)
		}
		all = append(all, f)
		reading.Go(func() { f.run(&ending) })
	}
	defer reading.Wait()
	defer func() {
		ending.Store(true)
		for _, f := range all {
			f.socket.conn.Close()
		}
	}()
	stop := publishing(t, nc, feeds, every)
	defer stop()
	ping := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(`{"type":"ping"}`))))
	time.Sleep(6 * every)
	t.Logf("%d clients; before any upgrade messages took %v", clients, all.late())
	for i := range upgrades {
		halves := all[:50] // each is in the middle of a frame
		for _, f := range halves {
			f.write(ping[:7])
		}
		before, done := u.mustUpgrade()
		if done.Connections < clients {
			t.Errorf("%d of %d connections were handed over", done.Connections, clients)
		}
		for _, f := range halves {
			f.write(ping[7:])
		}
		u.wantEnd(before)
		time.Sleep(3 * every)
		t.Logf("upgrade %d: nothing was read for %v, and sent for %v; messages took %v", i, done.Unread.Round(time.Millisecond), done.Paused.Round(time.Millisecond), all.late())
	}
	all.want(t, stop())
	u.dial("topic=chat.a") // and others are taken
}
