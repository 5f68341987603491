package conn

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"sync/atomic"
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

// Very many ask and read nothing of the answers, or next to nothing. They hold half
// of what there is for a moment alone; who reads, be it slowly, gets all of its own.
func TestUnreadAnswersAreBounded(t *testing.T) {
	const most, hostile, size = 4 << 20, 60, 64 << 10
	answer := response(string(pattern(size)))
	s := &script{}
	s.get = func(id poller.Token, r *Request) *Refusal {
		s.table.Answer(id, answer, r.KeepAlive)
		return nil
	}
	sh := startShard(t, s, claiming, smallBuffers, func(s *settings) {
		s.Answering, s.CloseTimeout = NewAnswering(most), time.Minute
	})
	for i := range hostile {
		c := sh.connectNarrow()
		if i%2 == 0 {
			c.send(ask("/get"), ask("/get")) // one behind the other, and the next is not begun
		} else {
			c.send(ask("/get", "Connection: close"))
		}
	}
	kept := sh.cfg.Answering.Kept
	var stalls stalls
	sh.do(func() { sh.onTick = func() { stalls.loop.note() } })
	slow := sh.connectNarrow()
	stalls.reader.note()
	slow.send(ask("/get"))
	until(t, "more than half is taken", func() bool { return kept() > most/2 || sh.Counts().Closed[ReasonAnswerFull] > 0 })
	got := make([]byte, len(answer))
	for read := 0; read < len(answer); time.Sleep(answerTime / 20) { // at six times the pace
		stalls.reader.note()
		n := min(answerPace*6/20, len(answer)-read)
		if _, err := io.ReadFull(slow.r, got[read:read+n]); err != nil {
			if !stalls.any() {
				t.Fatalf("who reads at six times the pace was cut off after %d bytes: %v", read, err)
			}
			t.Log("this machine stalled, so nobody read at that pace")
			slow = sh.connectNarrow()
			break
		}
		if read += n; read == len(answer) && !bytes.Equal(got, answer) {
			t.Error("it did not get what was sent")
		}
	}
	until(t, "others have room", func() bool { return kept() <= most/2 })
	if c := sh.Counts(); c.Closed[ReasonAnswerFull] == 0 || c.Closed[ReasonAnswerFull]+c.Closed[ReasonAnswered] > hostile+2 {
		t.Errorf("%v have ended", c.Closed)
	}
	if kept() < most/4 {
		t.Errorf("%d bytes are kept of the others: there was room for %d", kept(), most/2)
	}
	slow.send(ask("/get"))
	slow.wantBytes(string(answer))
}

// stalls are the longest times for which those who are to do something often did
// nothing: then they were not as fast as a test wants.
type stalls struct{ loop, reader stall }

type stall struct{ last, longest atomic.Int64 }

func (s *stall) note() {
	now := time.Now().UnixNano()
	if last := s.last.Swap(now); last != 0 {
		s.longest.Store(max(s.longest.Load(), now-last))
	}
}

func (s *stalls) any() bool {
	const most = int64(answerTime / 8)
	return s.loop.longest.Load() > most || s.reader.longest.Load() > most
}

// Reservations come to no more than there is, and are counted beside what waits.
func TestReserveAnswers(t *testing.T) {
	q := NewAnswering(100)
	for _, tc := range []struct {
		size int
		ok   bool
		kept int64
	}{{60, true, 60}, {50, false, 60}, {40, true, 100}, {1, false, 100}, {-60, true, 40}, {61, false, 40}, {60, true, 100}} {
		ok := true
		if tc.size < 0 {
			q.Release(-tc.size)
		} else {
			ok = q.Reserve(tc.size)
		}
		if ok != tc.ok || q.Kept() != tc.kept {
			t.Errorf("%d: %v, and %d are kept; want %v, %d", tc.size, ok, q.Kept(), tc.ok, tc.kept)
		}
	}
	if !NewAnswering(0).Reserve(1 << 40) {
		t.Error("no bound has refused")
	}
}
