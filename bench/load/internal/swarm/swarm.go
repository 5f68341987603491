// Package swarm is the clients of one worker process: connections of WebSockets or of Server-Sent Events on
// raw non-blocking sockets, all of them in one goroutine with one epoll set, so
// that a client costs some hundred bytes and a message about a microsecond
// beside the kernel's part.
package swarm

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load/internal/control"
	"github.com/pushd/pushd/bench/load/internal/stamp"
)

// status is where a client is.
type status byte

const (
	closed     status = iota
	connecting        // the kernel's handshake
	upgrading         // HTTP
	subscribing
	open
	leaving // close frame sent, waits for the end
)

// group is which counts a client belongs to.
type group byte

const (
	steady group = iota
	others       // stalls or churns
	groups
)

// client is one connection, and what is needed to open it again.
type client struct {
	fd         int32
	generation int32 // of fd, so that an event of an earlier socket is known
	first      uint32
	count      uint16 // of its subscriptions, subs[first:first+count]
	acks       uint16 // answers that it waits for
	status     status
	group      group
	began      int64  // connect
	rest       []byte // beginning of a frame, or of the 101
	message    []byte // fragments of a message
	fragmented bool
	deflated   bool    // the fragments are of a compressed one
	chunks     *chunks // of a body of Server-Sent Events that is chunked; else nil
}

// window is what is counted between two Begin.
type window struct {
	control.Window
	counts      [groups]control.Counts
	counted     control.Counted
	latency     *hdrhistogram.Histogram
	ready       *hdrhistogram.Histogram
	arrivals    []control.Arrival
	subscribers []uint32
	usage       unix.Rusage // at the beginning
}

// Swarm is the clients of one process. One goroutine has it.
type Swarm struct {
	// Static after New.
	clock   stamp.Clock
	stdin   int
	events  *set
	buffer  []byte
	scratch []byte
	random  *rand.Rand

	// Static after Prepare.
	plan    *control.Plan
	address syscall.Sockaddr
	sources []netip.Addr
	text    templates
	inflate *inflater // nil where clients offer no compression
	rsv     byte      // what an extension may set in a frame

	// What clients are and have.
	clients   []client
	subs      []subscription
	positions []position        // of each subscription, where clients resume; else none
	holes     map[uint32][]span // by index into subs; most have none
	locals    []uint32          // steady subscribers of each topic, now
	status    control.Status
	window    window
	notify    []uint32 // numbers of messages that have become complete

	// What they are told to do.
	opening opening
	churn   churn
	cycling int  // the clients below this leave as soon as they have subscribed
	again   bool // and come back
	stalled bool // the slow ones do not read
	probing bool

	// The driver.
	lines lines
	out   *json.Encoder
	ended bool
}

// New returns a swarm that is told by JSON lines at descriptor stdin, which
// becomes non-blocking, and answers on stdout.
func New(stdin int, stdout io.Writer) (*Swarm, error) {
	clock, err := stamp.NewClock()
	if err != nil {
		return nil, err
	}
	events, err := newSet()
	if err != nil {
		return nil, err
	}
	s := &Swarm{
		clock: clock, stdin: stdin, events: events, buffer: make([]byte, 64<<10), scratch: make([]byte, 0, 4<<10), random: rand.New(rand.NewPCG(1, 2)),
		holes: map[uint32][]span{}, out: json.NewEncoder(stdout),
	}
	if err := unix.SetNonblock(stdin, true); err != nil {
		return nil, fmt.Errorf("make the control pipe non-blocking: %w", err)
	}
	if err := events.add(stdin, controlToken, 0, unix.EPOLLIN); err != nil {
		return nil, fmt.Errorf("watch the control pipe: %w", err)
	}
	return s, nil
}

// controlToken is the control pipe in the set of sockets; clients are numbered from 0.
const controlToken = -1

// Run serves requests until there is an End, or stdin ends.
func (s *Swarm) Run() error {
	defer s.close()
	for !s.ended {
		wake := s.due(time.Now())
		ready, err := s.events.wait(wake)
		if err != nil {
			return fmt.Errorf("wait for sockets: %w", err)
		}
		for i := range ready {
			event := &ready[i]
			if event.Fd == controlToken {
				if err := s.obey(); err != nil {
					return err
				}
				continue
			}
			if c := &s.clients[event.Fd]; c.status != closed && c.generation == event.Pad {
				s.ready(uint32(event.Fd), c, event.Events)
			}
		}
		if len(s.notify) > 0 {
			if err := s.out.Encode(control.Event{Complete: s.notify}); err != nil {
				return err
			}
			s.notify = s.notify[:0]
		}
	}
	return nil
}

func (s *Swarm) close() {
	for i := range s.clients {
		s.shut(&s.clients[i])
	}
	s.events.close()
}

// due does what is due, and returns when it wants to be called again; the zero
// time: not before something happens.
func (s *Swarm) due(now time.Time) time.Time {
	wake := s.openSome(now)
	wake = earlier(wake, s.expireSome(now))
	return earlier(wake, s.churnSome(now))
}

// earlier returns the earlier of two times, where zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// prepare makes the clients, without a socket.
func (s *Swarm) prepare(plan *control.Plan) error {
	address, err := netip.ParseAddrPort(plan.Address)
	if err != nil {
		return fmt.Errorf("address of the server: %w", err)
	}
	s.address = sockaddr(address)
	for _, source := range plan.Sources {
		ip, err := netip.ParseAddr(source)
		if err != nil {
			return fmt.Errorf("address to connect from: %w", err)
		}
		s.sources = append(s.sources, ip)
	}
	s.plan, s.text = plan, newTemplates(plan)
	if plan.Deflate {
		s.inflate, s.rsv = newInflater(), rsv1
	}
	s.clients = make([]client, plan.Count)
	s.subs = make([]subscription, 0, plan.Count*plan.TopicsPerClient)
	if plan.Resume != "" {
		s.positions = make([]position, plan.Count) // TopicsPerClient is 1
	}
	s.locals = make([]uint32, len(plan.Topics))
	var topics []uint32
	for i := range s.clients {
		c := &s.clients[i]
		c.fd = -1
		if plan.Slow(plan.First+i) || plan.Churns(plan.First+i) {
			c.group = others
		}
		topics = plan.Assign(topics[:0], plan.First+i)
		c.first, c.count = uint32(len(s.subs)), uint16(len(topics))
		for _, topic := range topics {
			s.subs = append(s.subs, subscription{topic: topic, next: 1})
		}
	}
	s.begin(&control.Window{First: make([]uint32, len(plan.Topics))})
	return nil
}
