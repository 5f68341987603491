package swarm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load/internal/stamp"
)

// ready deals with what the set says of a client's socket.
func (s *Swarm) ready(i uint32, c *client, events uint32) {
	if c.status == connecting {
		if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		if err := s.connected(c); err != nil {
			s.end(i, c, reason(err))
			return
		}
	}
	// A read that does not fill the buffer has emptied the socket, and what comes later is a new edge;
	// but the end, if it has come already, is not.
	ending := events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	for more := events&unix.EPOLLIN != 0 || ending; more; {
		n, err := s.read(c)
		if err != nil {
			s.end(i, c, reason(err))
			return
		}
		more = n == len(s.buffer) || ending && n > 0
	}
}

// reason is an error as it is counted: without what differs from one
// connection to the next.
func reason(err error) string {
	if errors.Is(err, io.EOF) {
		return "closed without a close frame"
	}
	return err.Error()
}

// read takes what the socket has, at most a buffer, and returns how much that
// was: 0 where it has nothing.
func (s *Swarm) read(c *client) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&s.buffer[0])), uintptr(len(s.buffer)))
	switch {
	case errno == unix.EAGAIN:
		return 0, nil
	case errno != 0:
		return 0, fmt.Errorf("read: %w", errno)
	case n == 0:
		return 0, io.EOF
	}
	s.window.counted.Reads++
	s.window.counted.Bytes += uint64(n)
	if c.status == leaving {
		return int(n), nil // of no interest any more
	}
	return int(n), s.digest(c, s.buffer[:n])
}

// digest deals with what was read, and keeps what is not complete.
func (s *Swarm) digest(c *client, b []byte) (err error) {
	if c.chunks != nil {
		if b, err = c.chunks.strip(b); err != nil {
			return err
		}
	}
	if len(c.rest) > 0 {
		c.rest = append(c.rest, b...)
		b = c.rest
	}
	now := s.clock.Now()
	if c.status == upgrading {
		n, err := s.upgraded(c, b)
		if err != nil {
			return err
		}
		b = b[n:]
		if c.chunks != nil { // as the head has just said
			if b, err = c.chunks.strip(b); err != nil {
				return err
			}
		}
		if n > 0 && c.acks == 0 {
			if err := s.established(c, now); err != nil {
				return err
			}
		}
	}
	for c.status == subscribing || c.status == open {
		n, err := s.next(c, b, now)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		b = b[n:]
	}
	if len(b) == 0 {
		c.rest = nil
	} else {
		c.rest = append(c.rest[:0], b...) // b may be the end of rest itself, which append allows
	}
	return nil
}

// next deals with what b begins with, a frame or an event, and returns its length, 0 where it is not complete.
func (s *Swarm) next(c *client, b []byte, now int64) (n int, err error) {
	if s.plan.Events {
		event, n, err := cutEvent(b)
		if err == nil && n > 0 {
			err = s.takeEvent(c, event, now)
		}
		return n, err
	}
	f, n, err := cut(b, s.rsv)
	if err == nil && n > 0 {
		err = s.take(c, f, now)
	}
	return n, err
}

// take deals with one frame.
func (s *Swarm) take(c *client, f frame, now int64) error {
	switch f.opcode {
	case opPing:
		s.window.counted.Pings++
		return s.write(c, appendFrame(s.scratch[:0], opPong, f.payload, s.random.Uint32()))
	case opPong:
		return nil
	case opClose:
		return closeReason(f.payload)
	case opText, opBinary:
		if c.fragmented {
			return errSequence
		}
		if f.final {
			return s.whole(c, f.payload, f.deflate, now)
		}
		c.message, c.fragmented, c.deflated = append(c.message[:0], f.payload...), true, f.deflate
		return nil
	case opContinuation:
		if !c.fragmented {
			return errSequence
		}
		if len(c.message)+len(f.payload) > maxFrame {
			return errLarge
		}
		c.message = append(c.message, f.payload...)
		if !f.final {
			return nil
		}
		message := c.message
		c.message, c.fragmented = nil, false
		return s.whole(c, message, c.deflated, now)
	}
	return errReserved
}

// whole deals with the payload of all frames of a message.
func (s *Swarm) whole(c *client, b []byte, deflated bool, now int64) (err error) {
	if deflated {
		s.window.counted.Deflated++
		if b, err = s.inflate.inflate(b); err != nil {
			return err
		}
	}
	return s.message(c, b, now)
}

// closeReason is the error that a close frame is. The socket closes without an answer:
// nobody counts it.
func closeReason(payload []byte) error {
	if len(payload) < 2 {
		return errors.New("close frame without a code")
	}
	return fmt.Errorf("close frame with code %d", binary.BigEndian.Uint16(payload))
}

// message deals with a whole message. There may be several stamps in it, where a server
// batches within messages.
func (s *Swarm) message(c *client, b []byte, now int64) error {
	if s.plan.Echo != "" {
		if err := s.echo(c, b); err != nil {
			return err
		}
	}
	stamps, behind := 0, 0
	for rest := b; ; stamps++ {
		mark, n := stamp.Find(rest)
		if n == 0 {
			break
		}
		rest = rest[n:]
		behind = len(b) - len(rest)
		s.stamped(c, mark, now)
	}
	if s.plan.Resume != "" {
		s.locate(c, b, behind)
	}
	if stamps > 0 && c.acks == 0 {
		return nil
	}
	if c.acks > 0 {
		if err := s.answered(c, b, now); err != nil || c.status == leaving {
			return err
		}
	}
	if s.plan.GapMark != "" {
		s.window.counts[c.group].Gaps += uint64(bytes.Count(b, s.text.gap))
	}
	return nil
}

// echo sends back what is to be sent back: a line of a message, since a server
// that has it as its ping may batch that with messages.
func (s *Swarm) echo(c *client, b []byte) error {
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		if string(line) != s.plan.Echo {
			continue
		}
		s.window.counted.Pings++
		if err := s.write(c, appendFrame(s.scratch[:0], opText, line, s.random.Uint32())); err != nil {
			return err
		}
	}
	return nil
}

// answered counts the answers to what a client asked for.
func (s *Swarm) answered(c *client, b []byte, now int64) error {
	n := bytes.Count(b, s.text.subscribed)
	if len(s.text.recovered) > 0 {
		s.window.counted.Recovered += uint64(bytes.Count(b, s.text.recovered))
	}
	if c.status == open && len(s.text.unsubscribed) > 0 {
		n += bytes.Count(b, s.text.unsubscribed)
	}
	c.acks -= uint16(min(n, int(c.acks)))
	if c.acks > 0 {
		return nil
	}
	if c.status == subscribing {
		return s.established(c, now)
	}
	s.status.Changes++
	return nil
}

// stamped deals with one message of a publisher.
func (s *Swarm) stamped(c *client, m stamp.Stamp, now int64) {
	if m.Run != s.plan.Run {
		s.window.counted.Foreign++
		return
	}
	counts := &s.window.counts[c.group]
	for at := c.first; at < c.first+uint32(c.count); at++ {
		if s.subs[at].topic != m.Topic {
			continue
		}
		if m.Sequence == 0 {
			s.subs[at].state |= proven
		} else if s.track(at, m.Sequence, s.window.First[m.Topic], counts) == fresh {
			s.arrived(c, m, now)
		}
		return
	}
	if s.churn.tolerates(c, s.plan) {
		return
	}
	counts.Unwanted++
}

// arrived takes the time of a message that counts.
func (s *Swarm) arrived(c *client, m stamp.Stamp, now int64) {
	s.status.Heard = now
	if c.group != steady {
		s.status.Others++
		return
	}
	s.status.Received++
	record(s.window.latency, now-m.Sent)
	if s.window.Stride == 0 || m.Number < s.window.Number || (m.Number-s.window.Number)%s.window.Stride != 0 {
		return
	}
	at := int((m.Number - s.window.Number) / s.window.Stride)
	if at >= maxArrivals {
		return
	}
	for at >= len(s.window.arrivals) {
		s.window.arrivals = append(s.window.arrivals, make([]arrival, at-len(s.window.arrivals)+1)...)
	}
	a := &s.window.arrivals[at]
	a.Record(time.Duration(now - m.Sent))
	if s.window.Notify && a.Count == s.locals[m.Topic] {
		s.notify = append(s.notify, m.Number)
	}
}

// record counts a duration in ns; the clock of two processes may differ by a
// hair, and no histogram takes what is below 0.
func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(ns, 0), int64(longest))) // within range, so it cannot fail
}

// write sends a few bytes at once. A client whose socket does not take them has a server
// that has stopped reading, which is an end like any other.
func (s *Swarm) write(c *client, b []byte) error {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return fmt.Errorf("write: %w", syscall.Errno(errno))
	}
	if int(n) < len(b) {
		return fmt.Errorf("write: the server does not read")
	}
	return nil
}
