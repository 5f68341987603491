package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/topics"
)

// watcher is a client that goes through everything, and holds pushd to what
// docs/PROTOCOL.md says of cursors: it keeps one for each subscription, comes
// back with them to any node, and is never told that something is missing.
type watcher struct {
	// Static.
	name    string
	fleet   *fleet
	watches []*watch
	manner  manner
	calm    *atomic.Bool // all is published, and nothing ends any more

	// Its goroutine's.
	sessions int
	dieIn    int    // messages until it ends the connection
	heard    []told // on this connection
}

// manner is how a watcher reads.
type manner int

const (
	eager  manner = iota // as fast as it can
	slow                 // a bit for each message
	pauses               // stops now and then
	frozen               // hardly ever reads until all is published
	numManners
)

// watch is one subscription, over all connections.
type watch struct {
	pattern string
	last    map[string]int // number of the last message of each topic that matches
	begun   bool
	first   uint64 // it gets what the stream numbers higher
	cursor  string // of the last message since subscribed
	seen    []sighting
	active  bool // it is subscribed on this connection
	missing int  // topics whose last message it has not seen
}

// sighting is one message as a watcher saw it, or as a stream has it.
type sighting struct {
	seq   uint64
	n     int
	topic string
}

// errAgain ends a connection to a node that was killed or stopped, or that has
// no NATS now.
var errAgain = errors.New("to be tried again")

// stall is how long a watcher waits for a message at most: it has failed then.
const stall = 90 * time.Second

func newWatcher(name string, f *fleet, calm *atomic.Bool, last map[string]int, patterns ...string) *watcher {
	w := &watcher{name: name, fleet: f, calm: calm, manner: manner(rand.IntN(int(numManners)))}
	for _, p := range patterns {
		v := &watch{pattern: p, last: map[string]int{}}
		for topic, n := range last {
			if topics.Match(p, topic) {
				v.last[topic] = n
			}
		}
		v.missing = len(v.last)
		w.watches = append(w.watches, v)
	}
	return w
}

// run ends when the watcher has seen the last message of each topic.
func (w *watcher) run(ctx context.Context) error {
	for ctx.Err() == nil {
		w.sessions++
		err := w.session(ctx)
		switch {
		case err == nil && w.done():
			return nil
		case err == nil, errors.Is(err, errAgain):
			time.Sleep(rand.N(20 * time.Millisecond))
		default:
			return fmt.Errorf("%s, connection %d: %w", w.name, w.sessions, err)
		}
	}
	return fmt.Errorf("%s, connection %d: not done in time", w.name, w.sessions)
}

func (w *watcher) done() bool {
	for _, v := range w.watches {
		if v.missing > 0 {
			return false
		}
	}
	return true
}

// session is one connection, up to its end by either side. nil: by this one.
func (w *watcher) session(ctx context.Context) error {
	at := w.fleet.any()
	if at == nil {
		return errAgain
	}
	w.heard = w.heard[:0]
	total := 1
	for _, v := range w.watches {
		v.active = false
		for _, n := range v.last {
			total += n
		}
	}
	w.dieIn = 1 + rand.IntN(total/2+1)
	byQuery := rand.IntN(2) == 0
	where := "it was connecting"
	s, err := w.dial(ctx, at, byQuery)
	if err == nil {
		defer s.conn.Close()
		stop := context.AfterFunc(ctx, func() { s.conn.Close() })
		defer stop()
		if !byQuery {
			err = w.subscribe(s)
		}
		if err == nil {
			err = w.read(s)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			where = whereabouts(at.admin, s.conn)
		}
	}
	var network net.Error
	switch {
	case err == nil:
		return nil
	case !at.alive.Load(), err == ws.StatusError(503):
		return errAgain
	case errors.As(err, &network) && network.Timeout():
		return fmt.Errorf("nothing came for %v; %s; %s", stall, w.progress(), where)
	}
	return err
}

func (w *watcher) progress() (text string) {
	for _, v := range w.watches {
		text += fmt.Sprintf("[%s: from %d, %d messages, at %s, %d of %d topics incomplete]", v.pattern, v.first, len(v.seen), v.cursor, v.missing, len(v.last))
	}
	return text
}

// tail is what it heard on this connection, up to where it matters.
func (w *watcher) tail() string {
	var b strings.Builder
	for i, m := range w.heard {
		if m.Type != "message" || i > len(w.heard)-8 || i < 5 {
			c, _ := topics.ParseCursor(m.Cursor)
			fmt.Fprintf(&b, "%d:%s %s %d, ", i, m.Type, m.Topic, c.Seq)
		}
	}
	return b.String()
}

func (w *watcher) dial(ctx context.Context, at *address, byQuery bool) (*socket, error) {
	query := url.Values{}
	if byQuery {
		for _, v := range w.watches {
			query.Add("topic", v.pattern)
			query.Add("cursor", v.cursor)
		}
	}
	var d net.Dialer
	if w.manner != eager {
		d.Control = smallBuffer
	}
	return openSocket(ctx, &d, "ws://"+at.host+"/ws?"+query.Encode())
}

// openSocket opens a WebSocket over a connection of one's own making.
func openSocket(ctx context.Context, d *net.Dialer, url string) (*socket, error) {
	c, buffered, _, err := ws.Dialer{Timeout: stall, NetDial: d.DialContext}.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: c, read: c}
	if buffered != nil {
		s.read = io.MultiReader(io.LimitReader(buffered, int64(buffered.Buffered())), c)
	}
	return s, nil
}

// smallBuffer has a socket take little that is not read. With segments as large
// as those of loopback it would also wait for ever longer between them.
func smallBuffer(_, _ string, raw syscall.RawConn) error { return receiveBuffer(raw, 16<<10) }

func receiveBuffer(raw syscall.RawConn, size int) (err error) {
	if e := raw.Control(func(fd uintptr) {
		err = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, size),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400))
	}); e != nil {
		return e
	}
	return err
}

func (w *watcher) subscribe(s *socket) error {
	for _, v := range w.watches {
		command := map[string]string{"type": "subscribe", "topic": v.pattern}
		if v.cursor != "" {
			command["cursor"] = v.cursor
		}
		text, err := json.Marshal(command)
		if err == nil {
			err = ws.WriteFrame(s.conn, ws.MaskFrame(ws.NewTextFrame(text)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// told is what of a message concerns a watcher.
type told struct {
	Type, Topic, Cursor, Code, Message, Reason string
	Recovered                                  *bool
	Data                                       struct{ N int }
}

// read reads until the watcher has all, or its end has come.
func (w *watcher) read(s *socket) error {
	for {
		f, err := s.tryNext(stall)
		if err != nil {
			return err
		}
		if f.Header.OpCode == ws.OpClose {
			code, reason := ws.ParseCloseFrameData(f.Payload)
			if code != 1001 {
				return fmt.Errorf("closed by %d %s", code, reason)
			}
			return errAgain
		}
		var m told
		if err := json.Unmarshal(f.Payload, &m); err != nil {
			return fmt.Errorf("got %.200q: %w", f.Payload, err)
		}
		if m.Type == "error" && m.Code == "unavailable" { // NATS is away: nothing is subscribed
			return nil
		}
		w.heard = append(w.heard, m)
		if err := w.take(&m); err != nil {
			return fmt.Errorf("%w: %.100s; %s after %s", err, f.Payload, w.progress(), w.tail())
		}
		if w.done() {
			return nil
		}
		if m.Type == "message" && !w.calm.Load() {
			if w.dieIn--; w.dieIn <= 0 {
				return w.die(s)
			}
			w.rest()
		}
	}
}

// die ends the connection in one of several ways.
func (w *watcher) die(s *socket) error {
	if rand.IntN(2) == 0 {
		return s.conn.(*net.TCPConn).SetLinger(0) // a reset
	}
	return nil
}

// rest is how a watcher spends its time between messages.
func (w *watcher) rest() {
	switch {
	case w.manner == slow:
		time.Sleep(rand.N(500 * time.Microsecond))
	case w.manner == pauses && rand.IntN(100) == 0:
		time.Sleep(rand.N(300 * time.Millisecond))
	case w.manner == frozen && rand.IntN(50) == 0:
		for end := time.Now().Add(5 * time.Second); !w.calm.Load() && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// take notes what came, or says why it must not have come.
func (w *watcher) take(m *told) error {
	switch m.Type {
	case "welcome":
		return nil
	case "subscribed":
		return w.stands(m)
	case "message":
		return w.note(m)
	}
	return errors.New("nothing was lost, and it came")
}

func (w *watcher) stands(m *told) error {
	for _, v := range w.watches {
		if v.pattern != m.Topic {
			continue
		}
		c, err := topics.ParseCursor(m.Cursor)
		if err != nil {
			return err
		}
		switch {
		case v.active:
			return errors.New("subscribed twice")
		case !v.begun:
			v.begun, v.first, v.cursor = true, c.Seq, m.Cursor
			if m.Recovered != nil {
				return errors.New("recovered, without a cursor")
			}
		case m.Recovered == nil || !*m.Recovered:
			return fmt.Errorf("not recovered from %s", v.cursor)
		case m.Cursor != v.cursor:
			return fmt.Errorf("recovered from elsewhere than %s", v.cursor)
		}
		v.active = true
		return nil
	}
	return errors.New("subscribed to what was not asked for")
}

// note gives a message to the subscriptions that have not had it. One at least
// must lack it: others may have had it, where they overlap and one was resumed.
func (w *watcher) note(m *told) error {
	c, err := topics.ParseCursor(m.Cursor)
	if err != nil {
		return err
	}
	wanted := false
	for _, v := range w.watches {
		if !v.active || !topics.Match(v.pattern, m.Topic) {
			continue
		}
		before := v.first
		if n := len(v.seen); n > 0 {
			before = v.seen[n-1].seq
		}
		if c.Seq <= before {
			continue
		}
		wanted = true
		v.seen = append(v.seen, sighting{c.Seq, m.Data.N, m.Topic})
		v.cursor = m.Cursor
		if m.Data.N == v.last[m.Topic] {
			v.missing--
		}
	}
	if !wanted {
		return errors.New("nobody lacks it")
	}
	return nil
}
