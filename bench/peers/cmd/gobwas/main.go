// Command gobwas is the hub on gobwas/ws and mailru/easygo in the manner of the article "A Million WebSockets and Go": an upgrade
// straight on the connection, no goroutine for an idle one, epoll for reading, a writer only while there is something to
// write, and a bounded pool of goroutines for all of it.
//
// In one point it leaves the article: of easygo it uses the raw netpoll.Epoll. A netpoll.Desc duplicates the descriptor, and Resume
// makes the socket blocking, so that what the article shows does not hold many connections today.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	"github.com/gobwas/ws/wsutil"
	"github.com/mailru/easygo/netpoll"

	"github.com/pushd/pushd/bench/peers/hub"
)

// readable is one-shot: a connection is polled again when its message has been handled.
const readable = netpoll.EPOLLIN | netpoll.EPOLLRDHUP | netpoll.EPOLLONESHOT

type server struct {
	epoll  *netpoll.Epoll
	pool   *pool
	topics hub.Topics[*conn]
	queue  int // frames

	compress bool
}

type conn struct {
	seat   hub.Member[*conn]
	server *server
	tcp    *net.TCPConn
	fd     int  // of tcp, open until the reader closes it
	packed bool // it takes compressed messages

	mu      sync.Mutex
	waiting net.Buffers // frames, guarded by mu
	writing bool        // somebody is in write or about to be, guarded by mu
}

func main() {
	workers := flag.Int("workers", 128, "`goroutines` of the pool; the default is that of the author's chat example")
	compress := flag.Bool("compress", false, "accept permessage-deflate, and compress at the default level of wsflate, 9")
	queue := flag.Int("queue", 1024, "`messages` that wait for a client before it is cut off")
	hub.Main(func(clients net.Listener) (hub.Publish, error) {
		epoll, err := netpoll.EpollCreate(nil)
		if err != nil {
			return nil, fmt.Errorf("epoll_create: %w", err)
		}
		s := &server{epoll: epoll, pool: newPool(*workers), queue: *queue, compress: *compress}
		go s.accept(clients)
		return s.publish, nil
	})
}

func (s *server) accept(clients net.Listener) {
	for {
		tcp, err := clients.Accept()
		if err != nil {
			return
		}
		s.pool.schedule(func() { s.open(tcp.(*net.TCPConn)) })
	}
}

// open makes the upgrade, which holds a worker until the client has sent its request.
func (s *server) open(tcp *net.TCPConn) {
	extension := wsflate.Extension{Parameters: wsflate.DefaultParameters}
	var upgrader ws.Upgrader
	if s.compress {
		upgrader.Negotiate = extension.Negotiate
	}
	if _, err := upgrader.Upgrade(tcp); err != nil {
		tcp.Close()
		return
	}
	c := &conn{server: s, tcp: tcp}
	_, c.packed = extension.Accepted()
	c.seat.Conn = c
	raw, err := tcp.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { c.fd = int(fd) })
	}
	if err != nil {
		tcp.Close()
		return
	}
	err = s.epoll.Add(c.fd, readable, func(netpoll.EpollEvent) { s.pool.schedule(c.receive) })
	if err != nil {
		c.close()
	}
}

// receive takes one message or control frame, on a worker. No other receive of c runs, since c is not polled meanwhile.
func (c *conn) receive() {
	if c.read() != nil || c.server.epoll.Mod(c.fd, readable) != nil {
		c.close()
	}
}

// read waits for the rest of what has begun to arrive.
func (c *conn) read() error {
	header, body, err := wsutil.NextReader(c.tcp, ws.StateServerSide)
	if err != nil {
		return err
	}
	if header.OpCode.IsControl() {
		return wsutil.ControlFrameHandler(c, ws.StateServerSide)(header, body)
	}
	text, err := io.ReadAll(body)
	if err != nil || header.OpCode != ws.OpText {
		return err
	}
	if answer := c.server.topics.Obey(&c.seat, text); answer != nil {
		_, err = c.Write(ws.MustCompileFrame(ws.NewTextFrame(answer)))
	}
	return err
}

// close is called by the reader alone. It takes the descriptor out of epoll before its number can go to another connection.
func (c *conn) close() {
	c.server.topics.Leave(&c.seat)
	c.server.epoll.Del(c.fd)
	c.tcp.Close()
}

func (s *server) publish(topic string, payload []byte) {
	plain := ws.MustCompileFrame(ws.NewTextFrame(payload))
	packed := plain
	if s.compress {
		if frame, err := wsflate.CompressFrame(ws.NewTextFrame(payload)); err == nil {
			packed = ws.MustCompileFrame(frame)
		}
	}
	s.topics.Each(topic, func(c *conn) {
		frame := plain
		if c.packed {
			frame = packed
		}
		if c.enqueue(frame) {
			s.pool.schedule(c.flush)
		}
	})
}

// Write sends a copy of an answer from a worker, which must not wait for another worker.
func (c *conn) Write(frame []byte) (int, error) {
	if c.enqueue(bytes.Clone(frame)) {
		c.flush()
	}
	return len(frame), nil
}

// enqueue reports whether the caller has to see to it that flush runs.
func (c *conn) enqueue(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) >= c.server.queue {
		// Ends a blocked write, and wakes the reader, which closes.
		c.tcp.CloseRead()
		c.tcp.CloseWrite()
		return false
	}
	c.waiting = append(c.waiting, frame)
	start := !c.writing
	c.writing = true
	return start
}

// flush writes until nothing waits, what came together in one system call.
func (c *conn) flush() {
	for {
		c.mu.Lock()
		frames := c.waiting
		c.waiting = nil
		c.writing = len(frames) > 0
		c.mu.Unlock()
		switch len(frames) {
		case 0:
			return
		case 1:
			c.tcp.Write(frames[0])
		default:
			frames.WriteTo(c.tcp)
		}
	}
}

// pool runs tasks on a bounded number of goroutines, which are started when they are first needed and then stay.
type pool struct {
	tasks chan func()
	slots chan struct{} // one for each goroutine that has been started
}

func newPool(workers int) *pool {
	return &pool{tasks: make(chan func()), slots: make(chan struct{}, workers)}
}

// schedule waits while all workers are busy. So a worker must not call it: all of them could.
func (p *pool) schedule(task func()) {
	select {
	case p.tasks <- task: // somebody is idle
		return
	default:
	}
	select {
	case p.tasks <- task:
	case p.slots <- struct{}{}:
		go p.work(task)
	}
}

func (p *pool) work(task func()) {
	for {
		task()
		task = <-p.tasks
	}
}
