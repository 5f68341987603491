package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/topics"
)

// slowLoad publishes numbers, from 0 on, to the topics of each namespace of
// slowModes. Nobody else does, so n is the n+1st message of its stream.
type slowLoad struct {
	// Static.
	t      testing.TB
	topics int
	js     [len(slowModes)]nats.JetStreamContext
	room   [len(slowModes)]chan struct{} // holds as many as are on their way to the one who keeps reading
	failed context.Context
	fail   context.CancelFunc
	ending chan struct{} // closed when it is known how many there will be

	// Once ending is closed.
	total [len(slowModes)]int

	// Atomic.
	sent [len(slowModes)]atomic.Int64
}

func newSlowLoad(t testing.TB, url string, topics int) *slowLoad {
	l := &slowLoad{t: t, topics: topics, ending: make(chan struct{})}
	l.failed, l.fail = context.WithCancel(t.Context())
	for i := range l.js {
		nc, err := nats.Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		if l.js[i], err = nc.JetStream(nats.PublishAsyncMaxPending(slowWindow)); err != nil {
			t.Fatal(err)
		}
		l.room[i] = make(chan struct{}, slowWindow)
	}
	return l
}

// during publishes while f runs, as fast as those who keep reading read. It
// returns when the streams have stored all: so many messages a second.
func (l *slowLoad) during(f func()) (rate float64) {
	ctx, stop := context.WithCancel(l.failed)
	began, before := time.Now(), l.sentToAll()
	var publishing sync.WaitGroup
	for i := range l.js {
		publishing.Go(func() {
			for ctx.Err() == nil {
				l.publish(ctx, i)
			}
			select {
			case <-l.js[i].PublishAsyncComplete():
			case <-time.After(patience):
				l.t.Errorf("the stream of %s has not taken all", slowModes[i])
			}
		})
	}
	f()
	stop()
	publishing.Wait()
	return float64(l.sentToAll()-before) / time.Since(began).Seconds()
}

func (l *slowLoad) sentToAll() (n int64) {
	for i := range l.sent {
		n += l.sent[i].Load()
	}
	return n
}

// end publishes the last message of each topic.
func (l *slowLoad) end() {
	for i := range l.js {
		l.total[i] = int(l.sent[i].Load()) + l.topics
	}
	close(l.ending)
	for i := range l.js {
		for range l.topics {
			l.publish(l.failed, i)
		}
	}
}

var slowPadding = strings.Repeat("x", 1000)

// publish publishes the next message of a namespace when there is room for it.
func (l *slowLoad) publish(ctx context.Context, namespace int) {
	select {
	case l.room[namespace] <- struct{}{}:
	case <-ctx.Done():
		return
	}
	n := l.sent[namespace].Add(1) - 1
	subject := fmt.Sprintf("push.%s.t%d", slowModes[namespace], n%int64(l.topics))
	if _, err := l.js[namespace].PublishAsync(subject, fmt.Appendf(nil, `{"n":%d,"padding":%q}`, n, slowPadding), nats.StallWait(patience)); err != nil {
		l.t.Errorf("publishing %d to %s: %v", n, slowModes[namespace], err)
		l.fail()
	}
}

// slowReader reads one subscription, and holds pushd to what its mode promises.
type slowReader struct {
	*socket

	// Static.
	load      *slowLoad
	admin     string // of its pushd
	namespace int    // index in slowModes
	mode      string
	pattern   string
	step      int  // from one of its numbers to the next
	keeps     bool // it never stops reading

	// Its goroutine's.
	next    int   // lowest number that may come
	newest  []int // of each topic
	behind  int   // where its latest gap ended
	count   int   // of messages
	bytes   int   // of these
	skipped int   // times that it was told of values left out
	gaps    int
}

// everyTopic is for slowLoad.reader.
const everyTopic = -1

// reader subscribes to one topic, or everyTopic, while nothing is published.
func (l *slowLoad) reader(r *shipped, namespace, topic int) *slowReader {
	mode := slowModes[namespace]
	s := &slowReader{load: l, admin: r.adminAddress, namespace: namespace, mode: mode, pattern: mode + ".*", step: 1, newest: make([]int, l.topics)}
	if topic != everyTopic {
		s.pattern, s.step = fmt.Sprintf("%s.t%d", mode, topic), l.topics
	}
	s.socket = r.dial("")
	s.want("welcome")
	s.send(fmt.Sprintf(`{"type":"subscribe","topic":%q}`, s.pattern))
	at, err := topics.ParseCursor(s.want("subscribed").Cursor)
	if err != nil {
		l.t.Fatal(err)
	}
	if mode != "latest" { // else it begins with values that are there
		s.next = int(at.Seq)
	}
	for topic != everyTopic && s.next%l.topics != topic {
		s.next++
	}
	s.socket.read = bufio.NewReaderSize(s.socket.read, 16<<10) // else each frame takes three system calls
	return s
}

// run reads up to the last message of each topic.
func (s *slowReader) run() error {
	var err error
	for err == nil && !s.done() {
		f, errNext := s.tryNext(patience)
		if err = errNext; err == nil {
			err = s.take(f.Payload)
		}
	}
	if err == nil {
		err = s.checkEnd()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %s", err, whereabouts(s.admin, s.conn))
	}
	if err != nil {
		return fmt.Errorf("%s, after %d messages, %d gaps and %d skips, of %d that were published: %w", s.pattern, s.count, s.gaps, s.skipped, s.load.sent[s.namespace].Load(), err)
	}
	return nil
}

// done reports whether there will be no more.
func (s *slowReader) done() bool {
	select {
	case <-s.load.ending:
		return s.next >= s.load.total[s.namespace]
	default:
		return false
	}
}

// take takes what came, or says why it must not have come.
func (s *slowReader) take(frame []byte) error {
	switch {
	case bytes.HasPrefix(frame, []byte(`{"type":"message"`)):
		return s.takeMessage(frame)
	case bytes.HasPrefix(frame, []byte(`{"type":"gap"`)) && s.mode == "live" && !s.keeps:
		return s.takeGap(frame)
	case bytes.HasPrefix(frame, []byte(`{"type":"skipped"`)) && s.mode == "latest":
		s.skipped++
		return nil
	}
	return fmt.Errorf("it got %.200s", frame)
}

func (s *slowReader) takeMessage(frame []byte) error {
	_, rest, _ := bytes.Cut(frame, []byte(`"n":`))
	digits, _, _ := bytes.Cut(rest, []byte(","))
	n, err := strconv.Atoi(string(digits))
	if err != nil || n < s.next || n > s.next && s.mode != "latest" {
		return fmt.Errorf("it got %.200s after %d", frame, s.next-s.step)
	}
	s.count++
	s.bytes += len(frame)
	s.newest[n%s.load.topics] = n
	for passed := s.next; s.keeps && passed <= n; passed++ {
		<-s.load.room[s.namespace]
	}
	s.next = n + s.step
	return nil
}

// takeGap holds that a gap is of what comes after the last message, and before the next.
func (s *slowReader) takeGap(frame []byte) error {
	var m message
	if err := json.Unmarshal(frame, &m); err != nil {
		return err
	}
	from, errFrom := topics.ParseCursor(m.From)
	to, errTo := topics.ParseCursor(m.To)
	if err := errors.Join(errFrom, errTo); err != nil {
		return err
	}
	if m.Reason != "slow" || int(from.Seq) != s.next || to.Seq <= from.Seq {
		return fmt.Errorf("it got %s after %d", frame, s.next-1)
	}
	s.gaps++
	s.next = int(to.Seq)
	s.behind = s.next
	return nil
}

// checkEnd holds that one who stopped missed what it could not get, and no more. It
// may get more than the ring holds: where its shard lags, that reads history.
func (s *slowReader) checkEnd() error {
	total := s.load.total[s.namespace]
	if s.mode == "latest" {
		for topic, n := range s.newest {
			if n < total-s.load.topics {
				return fmt.Errorf("%d is the newest of topic %d", n, topic)
			}
		}
	}
	switch {
	case s.keeps:
	case s.mode == "latest" && s.skipped == 0:
		return errors.New("it was not told that values were left out")
	case s.mode == "live" && total-s.behind < slowHeld:
		return fmt.Errorf("it got the last %d messages alone, where the ring holds %d", total-s.behind, slowHeld)
	}
	return nil
}
