// Command floor-go is the floor where there is no C compiler: what floor/floor.c does, in Go, with raw system calls that the scheduler
// is not told of. A delivery costs it somewhat more than the one in C, so the two are not to be compared.
package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"github.com/pushd/pushd/bench/peers/hub"
)

const (
	inputSize = 1 << 20 // bytes of the longest message
	patience  = 20      // ms without input after which less than a batch leaves
	guid      = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

type kind byte

const (
	request kind = iota
	open
	publisher
)

type conn struct {
	kind kind
	age  uint32 // how many had this descriptor before
	rest []byte // a message that is not yet complete
}

// member has left once the connection is of another age.
type member struct {
	fd  int
	age uint32
}

type topic struct {
	members []member
	batch   []byte // frames that wait
	waiting int    // messages
}

type floor struct {
	epoll   int
	batch   int
	waiting int    // messages, in all topics
	conns   []conn // by descriptor
	topics  map[string]*topic
	input   []byte
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` for WebSocket clients; port 0 takes a free one")
	publish := flag.String("publish", "127.0.0.1:0", "`address` for publishers; port 0 takes a free one")
	batch := flag.Int("batch", 1, "`messages` of a topic that leave in one write; fewer leave once nothing has come in for 20 ms")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "floor: this one is in Go with raw system calls, not in C")
	f := &floor{batch: *batch, topics: make(map[string]*topic), input: make([]byte, inputSize)}
	if err := f.run(*listen, *publish); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func (f *floor) run(listen, publish string) (err error) {
	if f.epoll, err = syscall.EpollCreate1(0); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	clients, ws, err := f.openPort(listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	publishers, publications, err := f.openPort(publish)
	if err != nil {
		return fmt.Errorf("-publish: %w", err)
	}
	fmt.Printf("listening ws=%s publish=%s\n", ws, publications)
	events := make([]syscall.EpollEvent, 1024)
	for {
		wait := -1
		if f.waiting > 0 {
			wait = patience
		}
		n, err := syscall.EpollWait(f.epoll, events, wait)
		if err != nil && err != syscall.EINTR {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		if n == 0 {
			for _, t := range f.topics {
				f.flush(t)
			}
		}
		for _, event := range events[:max(n, 0)] {
			switch fd := int(event.Fd); fd {
			case clients:
				err = f.accept(fd, request)
			case publishers:
				err = f.accept(fd, publisher)
			default:
				f.readable(fd)
			}
			if err != nil {
				return err
			}
		}
	}
}

// openPort returns the listening socket and its address. It is no net.Listener, since the runtime would poll it as well.
func (f *floor) openPort(address string) (fd int, at netip.AddrPort, err error) {
	if at, err = netip.ParseAddrPort(address); err != nil {
		return 0, at, err
	}
	if !at.Addr().Is4() {
		return 0, at, fmt.Errorf("%s is not an IPv4 address and a port", address)
	}
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, at, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1), // accepted sockets inherit it
		syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}),
		syscall.Listen(fd, 65535),
		f.watch(fd),
	)
	if err != nil {
		return 0, at, fmt.Errorf("%s: %w", address, err)
	}
	got, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, at, os.NewSyscallError("getsockname", err)
	}
	return fd, netip.AddrPortFrom(at.Addr(), uint16(got.(*syscall.SockaddrInet4).Port)), nil
}

func (f *floor) watch(fd int) error {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(f.epoll, syscall.EPOLL_CTL_ADD, fd, &event))
}

// accept leaves the sockets blocking.
func (f *floor) accept(listener int, k kind) error {
	for {
		fd, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(listener), 0, 0, 0, 0, 0)
		if errno != 0 {
			return nil
		}
		for int(fd) >= len(f.conns) {
			f.conns = append(f.conns, conn{})
		}
		f.conns[fd].kind = k
		if err := f.watch(int(fd)); err != nil {
			return err
		}
	}
}

func (f *floor) readable(fd int) {
	c := &f.conns[fd]
	length := copy(f.input, c.rest)
	c.rest = nil
	done, step := 0, -1
	if length < len(f.input) {
		free := f.input[length:]
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&free[0])), uintptr(len(free)))
		if errno == 0 && n > 0 {
			length += int(n)
			for step = 1; step > 0 && done < length; done += max(step, 0) {
				step = f.take(fd, f.input[done:length])
			}
		}
	}
	if step < 0 {
		c.age++
		syscall.Close(fd)
		return
	}
	if done < length {
		c.rest = bytes.Clone(f.input[done:length])
	}
}

// take returns how many bytes it has done with, 0 where more has to come, -1 to close.
func (f *floor) take(fd int, in []byte) int {
	switch f.conns[fd].kind {
	case request:
		return f.takeRequest(fd, in)
	case open:
		return f.takeFrame(fd, in)
	default:
		return f.takePublication(in)
	}
}

func (f *floor) takeRequest(fd int, in []byte) int {
	const keyHeader = "\r\nsec-websocket-key:"
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		return 0
	}
	at := bytes.Index(bytes.ToLower(in[:end]), []byte(keyHeader))
	if at < 0 {
		return -1
	}
	key, _, _ := bytes.Cut(in[at+len(keyHeader):end], []byte("\r\n"))
	sum := sha1.Sum(append(bytes.TrimSpace(key), guid...))
	send(fd, []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
		base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n"))
	f.conns[fd].kind = open
	return end + 4
}

func (f *floor) takeFrame(fd int, in []byte) int {
	const opText, opClose = 1, 8
	head, n := 6, 0
	if len(in) >= 2 {
		n = int(in[1] & 127)
	}
	switch n {
	case 127:
		return -1
	case 126:
		if head = 8; len(in) >= head {
			n = int(binary.BigEndian.Uint16(in[2:]))
		}
	}
	if len(in) < head+n {
		return 0
	}
	mask, text := in[head-4:head], in[head:head+n]
	for i := range text {
		text[i] ^= mask[i%4]
	}
	switch in[0] & 15 {
	case opClose:
		return -1
	case opText:
		f.command(fd, text)
	}
	return head + n
}

// command takes {"type":"subscribe","topic":"X"}, spelled like this, or the same with unsubscribe.
func (f *floor) command(fd int, text []byte) {
	_, after, ok := bytes.Cut(text, []byte(`"topic":"`))
	name, _, ended := bytes.Cut(after, []byte(`"`))
	if !ok || !ended {
		return
	}
	t, said := f.topic(name), "subscribed"
	if bytes.Contains(text, []byte(`"unsubscribe"`)) {
		said = "unsubscribed"
		for i := len(t.members) - 1; i >= 0; i-- {
			if t.members[i].fd == fd {
				t.drop(i)
			}
		}
	} else {
		t.members = append(t.members, member{fd: fd, age: f.conns[fd].age})
	}
	send(fd, hub.TextFrame([]byte(`{"type":"`+said+`","topic":"`+string(name)+`"}`)))
}

func (f *floor) topic(name []byte) *topic {
	t := f.topics[string(name)]
	if t == nil {
		t = &topic{}
		f.topics[string(name)] = t
	}
	return t
}

func (t *topic) drop(i int) {
	last := len(t.members) - 1
	t.members[i] = t.members[last]
	t.members = t.members[:last]
}

// takePublication takes u32 length of the rest, u8 length of the topic, the topic, the payload.
func (f *floor) takePublication(in []byte) int {
	if len(in) < 5 {
		return 0
	}
	rest, name := int(binary.BigEndian.Uint32(in)), int(in[4])
	if rest > inputSize-4 || rest < 1+name {
		return -1
	}
	if len(in) < 4+rest {
		return 0
	}
	t := f.topic(in[5 : 5+name])
	t.batch = append(t.batch, hub.TextFrame(in[5+name:4+rest])...)
	f.waiting++
	if t.waiting++; t.waiting >= f.batch {
		f.flush(t)
	}
	return 4 + rest
}

func (f *floor) flush(t *topic) {
	if t.waiting == 0 {
		return
	}
	for i := 0; i < len(t.members); {
		m := t.members[i]
		if f.conns[m.fd].age != m.age {
			t.drop(i)
			continue
		}
		send(m.fd, t.batch)
		i++
	}
	f.waiting -= t.waiting
	t.batch, t.waiting = t.batch[:0], 0
}

// send is the bare write. Where the client is gone, epoll says so too.
func send(fd int, p []byte) {
	for len(p) > 0 {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch {
		case errno == syscall.EINTR:
		case errno != 0:
			return
		default:
			p = p[n:]
		}
	}
}
