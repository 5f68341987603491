package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// opening is the clients on their way to an open connection.
type opening struct {
	queue    []uint32 // wait for their turn
	underway int      // between connect and open, or leaving
	pace     control.Pace
	since    time.Time // when pace began
	started  int       // since then
	looked   time.Time // when expireSome last did
}

// connect queues all clients that are closed.
func (s *Swarm) connect(pace control.Pace) {
	s.cycling, s.again = 0, false
	s.opening.pace, s.opening.since, s.opening.started = pace, time.Now(), 0
	for i := range s.clients {
		if s.clients[i].status == closed {
			s.opening.queue = append(s.opening.queue, uint32(i))
		}
	}
	s.settleOpening()
}

// openBatch bounds how many connections are begun before sockets are looked at.
const openBatch = 32

// openSome opens what the pace allows, and returns when it wants to go on.
func (s *Swarm) openSome(now time.Time) time.Time {
	o := &s.opening
	for n := 0; len(o.queue) > 0 && o.underway < o.pace.InFlight; n++ {
		if n == openBatch {
			return now
		}
		if o.pace.Rate > 0 {
			turn := o.since.Add(time.Duration(float64(o.started) / o.pace.Rate * float64(time.Second)))
			if now.Before(turn) {
				return turn
			}
		}
		i := o.queue[0]
		o.queue = o.queue[1:]
		o.started++
		o.underway++
		if err := s.dial(i, &s.clients[i]); err != nil {
			s.end(i, &s.clients[i], err.Error())
		}
	}
	return time.Time{}
}

// settleOpening notes when nobody is on the way any more.
func (s *Swarm) settleOpening() {
	s.status.Opening = len(s.opening.queue) + s.opening.underway
	if s.status.Opening == 0 {
		s.status.Settled = s.clock.Now()
	}
}

// dial begins a connection.
func (s *Swarm) dial(i uint32, c *client) error {
	c.began = s.clock.Now()
	family := unix.AF_INET
	if _, six := s.address.(*syscall.SockaddrInet6); six {
		family = unix.AF_INET6
	}
	fd, err := syscall.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EMFILE) {
			err = fmt.Errorf("%w: raise ulimit -n, or --workers", err)
		}
		return fmt.Errorf("socket: %w", err)
	}
	c.fd, c.status = int32(fd), connecting
	c.generation++
	// Without Nagle, so that a pong does not wait for the acknowledgement of what went before.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("TCP_NODELAY: %w", err)
	}
	if s.plan.SlowWindow > 0 && s.plan.Slow(s.plan.First+int(i)) {
		// Not SO_RCVBUF: messages take more room than their bytes, so where a buffer must not grow the kernel drops some
		// for which its window was open, and the server's waits longer and longer before it sends them again.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, s.plan.SlowWindow); err != nil {
			return fmt.Errorf("TCP_WINDOW_CLAMP: %w", err)
		}
	}
	if err := s.bind(fd); err != nil {
		return err
	}
	if err := syscall.Connect(fd, s.address); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			err = fmt.Errorf("%w: all ports are in use, name more --sources", err)
		}
		return fmt.Errorf("connect: %w", err)
	}
	if err := s.events.add(fd, int32(i), c.generation, watched); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// bind takes the next source address, and leaves the port to connect: a port is
// then unique for each destination, not for the whole address.
func (s *Swarm) bind(fd int) error {
	if len(s.sources) == 0 {
		return nil
	}
	source := s.sources[s.opening.started%len(s.sources)]
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	if err := syscall.Bind(fd, sockaddr(netip.AddrPortFrom(source, 0))); err != nil {
		return fmt.Errorf("bind to --sources %s: %w", source, err)
	}
	return nil
}

func sockaddr(a netip.AddrPort) syscall.Sockaddr {
	if a.Addr().Unmap().Is4() {
		return &syscall.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &syscall.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// connected sends the HTTP request.
func (s *Swarm) connected(c *client) error {
	code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("SO_ERROR: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("connect: %w", syscall.Errno(code))
	}
	c.status = upgrading
	return s.write(c, s.text.request(s.scratch[:0], s.subs[c.first].topic))
}

// maxResponse bounds the head of an answer to the HTTP request, in bytes.
const maxResponse = 16 << 10

// upgraded reads the answer to the HTTP request from the beginning of b, and
// returns its length, 0 where it is not complete.
func (s *Swarm) upgraded(c *client, b []byte) (int, error) {
	n := bytes.Index(b, []byte("\r\n\r\n"))
	if n < 0 {
		if len(b) > maxResponse {
			return 0, errors.New("upgrade: no end of the answer")
		}
		return 0, nil
	}
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	if s.plan.Events {
		return n + 4, s.streams(c, line, b[:n])
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101")) {
		return 0, fmt.Errorf("upgrade: answer %q", line)
	}
	if s.plan.Deflate {
		if err := checkExtension(b[:n]); err != nil {
			return 0, err
		}
	}
	if s.plan.Accept != "" && !bytes.Contains(b[:n], []byte(s.plan.Accept)) {
		return 0, errors.New("upgrade: no right Sec-WebSocket-Accept in the answer")
	}
	c.status = subscribing
	if s.plan.SubscribedMark != "" {
		c.acks = c.count
	}
	s.scratch = s.scratch[:0]
	if s.plan.Hello != "" {
		s.scratch = appendFrame(s.scratch, opText, []byte(s.plan.Hello), s.random.Uint32())
	}
	for at := range uint32(c.count) {
		topic, id := s.subs[c.first+at].topic, int(at)+2
		switch {
		case s.resumes(c):
			s.window.counted.Resumed++
			s.scratch = appendFrame(s.scratch, opText, s.text.resume(topic, id, s.positions[c.first]), s.random.Uint32())
		case at > 0 || !s.plan.InRequest:
			s.scratch = appendFrame(s.scratch, opText, s.text.subscribe(topic, id), s.random.Uint32())
		}
	}
	if len(s.scratch) > 0 {
		return n + 4, s.write(c, s.scratch)
	}
	return n + 4, nil
}

// streams takes the head before a stream of events. It was asked for with its topic, so nothing is left to say.
func (s *Swarm) streams(c *client, line, head []byte) error {
	head = bytes.ToLower(head)
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) || !bytes.Contains(head, []byte("text/event-stream")) {
		return fmt.Errorf("events: answer %q", line)
	}
	if bytes.Contains(head, []byte("transfer-encoding: chunked")) {
		c.chunks = &chunks{}
	}
	c.status = subscribing
	if s.plan.SubscribedMark != "" {
		c.acks = c.count
	}
	return nil
}

// established is called where a client has all that it asked for.
func (s *Swarm) established(c *client, now int64) error {
	c.status = open
	s.opening.underway--
	s.status.Open++
	s.status.Handshakes++
	record(s.window.ready, now-c.began)
	s.count(c, 1)
	s.settleOpening()
	if s.cycling > 0 {
		return s.leave(c)
	}
	return nil
}

// count adds a client's subscriptions to those of each topic, or takes them away.
func (s *Swarm) count(c *client, by int32) {
	if c.group != steady {
		return
	}
	for _, sub := range s.subs[c.first : c.first+uint32(c.count)] {
		s.locals[sub.topic] += uint32(by)
	}
}
