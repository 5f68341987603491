package conn

import (
	"bufio"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// connectNarrow opens a socket whose kernel takes a few kilobytes for a client
// that does not read.
func (sh *shard) connectNarrow() *client {
	sh.t.Helper()
	narrow := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	c, err := narrow.Dial("tcp", sh.addr)
	if err != nil {
		sh.t.Fatal(err)
	}
	sh.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		sh.t.Fatal(err)
	}
	return &client{TCPConn: c.(*net.TCPConn), t: sh.t, r: bufio.NewReader(c)}
}

// Very many ask and read nothing of the answers. What is kept for them is bounded
// over all shards; who reads, be it slowly, gets all of its own, on the shard that
// they are on and on another.
func TestUnreadAnswersAreBounded(t *testing.T) {
	const most, hostile, size = 4 << 20, 200, 64 << 10
	body := string(pattern(size))
	budget := NewAnswering(most)
	t.Cleanup(func() { // when both shards have ended
		if n := budget.Kept(); n != 0 {
			t.Errorf("%d bytes are counted when all is over", n)
		}
	})
	start := func() *shard {
		s := &script{}
		s.get = func(id poller.Token, r *Request) *Refusal {
			s.table.Await(id)
			keep := r.KeepAlive
			s.table.loop.Post(poller.Func(func() { s.table.Answer(id, response(body), keep) }))
			return nil
		}
		return startShard(t, s, claiming, smallBuffers, func(s *settings) {
			s.Answering, s.CloseTimeout = budget, time.Minute
		})
	}
	attacked, other := start(), start()
	answer := response(body)
	slow := attacked.connectNarrow()
	slow.send(ask("/get"))
	read := 0
	some := func() {
		n := min(2<<10, len(answer)-read)
		slow.wantBytes(string(answer[read : read+n]))
		read += n
	}
	for i := range hostile {
		c := attacked.connectNarrow()
		if i%2 == 0 {
			c.send(ask("/get"), ask("/get")) // one behind the other, and the next is not begun
		} else {
			c.send(ask("/get", "Connection: close"))
		}
		if n := budget.Kept(); n > most+2*size {
			t.Fatalf("%d bytes are kept, of at most %d", n, most)
		}
		if some(); i%50 == 0 {
			good := other.connectNarrow()
			for range 3 {
				good.send(ask("/get"))
				good.wantBytes(string(answer))
			}
		}
	}
	for read < len(answer) {
		some()
	}
	until(t, "the first were cut off", func() bool { return attacked.Counts().Closed[ReasonAnswerFull] >= hostile/4 })
	if n := other.Counts().Closed[ReasonAnswerFull]; n != 0 {
		t.Errorf("%d were cut off on a shard that nobody attacks", n)
	}
	if n := budget.Kept(); n < most/4 {
		t.Errorf("%d bytes are kept: there was room for %d", n, most/2)
	}
	slow.send(ask("/get"))
	slow.wantBytes(string(answer))
}

// The place of an answer in the line goes with it, however many come and go while
// one is not read.
func TestUnreadAnswersForgotten(t *testing.T) {
	s := &script{}
	answer := response(string(pattern(64 << 10)))
	s.get = func(id poller.Token, r *Request) *Refusal {
		s.table.Answer(id, answer, true)
		return nil
	}
	sh := startShard(t, s, claiming, smallBuffers, func(s *settings) { s.Answering = NewAnswering(1 << 20) })
	stuck, c := sh.connectNarrow(), sh.connectNarrow()
	stuck.send(ask("/get"))
	until(t, "its answer waits", func() bool { return look(sh, func() bool { return sh.unread.many == 1 }) })
	for range 20 {
		c.send(ask("/get"))
		c.wantBytes(string(answer))
	}
	sh.do(func() {
		for range 10 * keepQueue { // as very many would
			sh.unread.line.add(poller.NewToken(1<<20, 1), 0)
		}
	})
	c.send(ask("/get"))
	c.wantBytes(string(answer))
	if n := look(sh, func() int { return len(sh.unread.line.queue) - sh.unread.line.head }); n > keepQueue {
		t.Errorf("%d places for 1 answer", n)
	}
}
