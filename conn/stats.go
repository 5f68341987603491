package conn

import (
	"crypto/tls"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/poller"
)

// Stats counts what a table does. Counters only grow.
type Stats struct {
	// Atomic.
	accepted, upgraded, shed                    atomic.Uint64
	refused, closed                             [NumReasons]atomic.Uint64
	messages, bytesIn, bytesOut, pings, blocked atomic.Uint64
	acceptPauses, throttled                     atomic.Uint64
	sockets, open                               atomic.Int64
	handshakes                                  [2][2]atomic.Uint64 // of TLS: as in Counts
	unsecured                                   [NumReasons]atomic.Uint64
}

// secured counts a TLS handshake that is done.
func (s *Stats) secured(c tls.ConnectionState) {
	version, resumed := 0, 0
	if c.Version >= tls.VersionTLS13 {
		version = 1
	}
	if c.DidResume {
		resumed = 1
	}
	s.handshakes[version][resumed].Add(1)
}

// tally is what the loop counts for itself, and publishes once a turn: an
// atomic operation for each frame would be felt.
type tally struct {
	messages, bytesIn, bytesOut, pings, blocked, acceptPauses, throttled uint64
	open                                                                 int64
}

func (t *Table) publishStats() {
	s, c := &t.stats, &t.tally
	s.messages.Store(c.messages)
	s.bytesIn.Store(c.bytesIn)
	s.bytesOut.Store(c.bytesOut)
	s.pings.Store(c.pings)
	s.blocked.Store(c.blocked)
	s.acceptPauses.Store(c.acceptPauses)
	s.throttled.Store(c.throttled)
	s.open.Store(c.open)
	s.sockets.Store(int64(t.slab.used))
}

// Counts is what a table has done up to now.
type Counts struct {
	Accepted     uint64             // sockets taken from the listener
	Upgraded     uint64             // handshakes that ended well, and GET requests that were taken
	Shed         uint64             // sockets answered 503 at once, for want of file descriptors or quota, or when stopping
	Refused      [NumReasons]uint64 // sockets that ended before they were upgraded, by reason; handed over to net/http included
	Closed       [NumReasons]uint64 // upgraded connections that have ended, by reason
	Messages     uint64             // messages received
	BytesIn      uint64
	BytesOut     uint64
	Pings        uint64 // heartbeats sent
	Blocked      uint64 // times that a socket took no more data
	AcceptPauses uint64 // times that the listener rested for want of file descriptors
	Throttled    uint64 // times that nothing more was read of a client for Config.ByteRate
	Sockets      int64  // now, handshakes and closing ones included
	Open         int64  // now, upgraded; operators not included

	// TLS handshakes that were done: with TLS 1.2 and with 1.3, each of them in
	// full and resumed; and those that were not, which Refused has too.
	Secured   [2][2]uint64
	Unsecured [NumReasons]uint64
}

// Counts may be called from any goroutine.
func (t *Table) Counts() Counts {
	s := &t.stats
	c := Counts{
		Accepted: s.accepted.Load(), Upgraded: s.upgraded.Load(), Shed: s.shed.Load(),
		Messages: s.messages.Load(), BytesIn: s.bytesIn.Load(), BytesOut: s.bytesOut.Load(),
		Pings: s.pings.Load(), Blocked: s.blocked.Load(), AcceptPauses: s.acceptPauses.Load(), Throttled: s.throttled.Load(),
		Sockets: s.sockets.Load(), Open: s.open.Load(),
	}
	for i := range c.Closed {
		c.Refused[i], c.Closed[i], c.Unsecured[i] = s.refused[i].Load(), s.closed[i].Load(), s.unsecured[i].Load()
	}
	for version := range c.Secured {
		for resumed := range c.Secured[version] {
			c.Secured[version][resumed] = s.handshakes[version][resumed].Load()
		}
	}
	return c
}

// Add adds the counts of another table.
func (c *Counts) Add(o Counts) {
	c.Accepted += o.Accepted
	c.Upgraded += o.Upgraded
	c.Shed += o.Shed
	c.Messages += o.Messages
	c.BytesIn += o.BytesIn
	c.BytesOut += o.BytesOut
	c.Pings += o.Pings
	c.Blocked += o.Blocked
	c.AcceptPauses += o.AcceptPauses
	c.Throttled += o.Throttled
	c.Sockets += o.Sockets
	c.Open += o.Open
	for i := range c.Closed {
		c.Refused[i] += o.Refused[i]
		c.Closed[i] += o.Closed[i]
		c.Unsecured[i] += o.Unsecured[i]
	}
	for version := range c.Secured {
		for resumed := range c.Secured[version] {
			c.Secured[version][resumed] += o.Secured[version][resumed]
		}
	}
}

// Info describes one connection to a person.
type Info struct {
	ID       poller.Token
	Peer     netip.AddrPort
	Client   netip.Prefix // whose it is where Peer is a proxy: an IPv4 address, or 64 bits of an IPv6 address
	State    string
	Received time.Duration // since bytes last came
	Sent     time.Duration // since the socket last took bytes
	Unsent   int           // bytes that wait for the socket
	Reading  bool          // false: paused until its replies drain, or until what it sent too fast is forgiven
}

// Each describes the table's connections, from a slot on, until yield
// answers false.
func (t *Table) Each(from uint32, yield func(Info) bool) {
	now, tick := t.loop.Now(), t.loop.TickLength()
	for slot := from; slot < t.slab.next; slot++ {
		r := t.slab.at(slot)
		if r.state == stateFree || r.state == stateDead || r.state == stateIdle { // what is idle is nobody's
			continue
		}
		if !yield(Info{
			ID:       poller.NewToken(slot, r.generation),
			Peer:     peerOf(int(r.fd)),
			Client:   t.networkOf(r),
			State:    r.state.String(),
			Received: time.Duration(now-r.received) * tick,
			Sent:     time.Duration(now-r.sent) * tick,
			Unsent:   t.unsent(r),
			Reading:  r.flags&flagReadPaused == 0,
		}) {
			return
		}
	}
}

// Client is the address of a connection's client, the zero value if it has
// ended. Behind a proxy, of an IPv6 client only the first 64 bits are known.
func (t *Table) Client(id poller.Token) netip.Addr {
	r := t.live(id)
	if r == nil {
		return netip.Addr{}
	}
	if network := t.networkOf(r); network.IsValid() {
		return network.Addr()
	}
	return peerOf(int(r.fd)).Addr()
}

func (s state) String() string {
	return [...]string{"free", "arriving", "idle", "handshake", "held", "awaiting", "answered", "open", "closing", "closing", "dead"}[s]
}
