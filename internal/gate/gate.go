// Package gate decides by address who may come in: how many connections an
// address has, how fast it makes new ones, how fast it publishes over HTTP; and
// how fast anybody at all makes handshakes.
package gate

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/pushd/pushd/internal/via"
)

// Limits are what a Gate holds to. A zero field is no limit.
type Limits struct {
	Connections    int          // of one address, at a time
	ConnectionRate int          // new ones of one address, a second
	HandshakeRate  int          // upgrades a second, over all addresses
	PublishRate    int          // publications of one address over HTTP, a second
	Unlimited      via.Networks // who is not limited
}

// Burst is for how long an address that has been quiet may go at any speed:
// those behind one router come back together when their network does.
const Burst = 10 * time.Second

// Queue is how long those who come too fast are told to wait at most. Who
// has waited much longer is not there any more, and a flood of others cannot send
// anybody away for longer.
const Queue = 30 * time.Second

// Verdict is what becomes of who asks.
type Verdict uint8

const (
	Admitted Verdict = iota
	TooMany          // its address has as many connections as it may
	TooFast          // its address made too many of late
)

// Visit names an address that somebody has come from, until Leave. 0 names none.
type Visit uint32

// Gate knows the addresses that have connections, and those that had some a
// moment ago. An address is one of IPv4, or the first 64 bits of one of IPv6,
// which is what one customer has (RFC 6177). It is safe for use by several
// goroutines. A nil Gate counts nobody.
type Gate struct {
	// Static.
	limits                          Limits
	arrivals, publishes, handshakes Pace
	now                             func() int64 // a Clock

	mu sync.Mutex
	// mu guards the following fields.
	visits map[uint64]Visit
	pages  []*[pageSize]entry
	last   Visit // the highest that was ever given out
	spare  Visit // the first of those that were given back, linked by newer; 0: none
	peak   int   // most addresses since the map was made
	shaken int64 // of Pace handshakes
	due    int64 // when the last is due who was told to come again for a handshake
	idle   struct {
		oldest, newest Visit
		n              int
	}
}

// entry is one address. It has no pointer, so that a flood of them is nothing to
// the garbage collector.
type entry struct {
	key          uint64
	arrived      int64 // of Pace arrivals
	published    int64 // of Pace publishes
	due          int64 // when the last is due who was told to come again
	connections  uint32
	older, newer Visit // while idle: its neighbours
	idle         bool
}

const (
	pageSize = 1 << 10

	// maxIdle bounds the addresses that are remembered without a connection, and
	// with the sockets there are, the memory of a flood from very many. The oldest
	// is forgotten for the newest: whoever has more addresses than this needs no rate.
	maxIdle = 1 << 16

	// sweepAtATime bounds what one call forgets.
	sweepAtATime = 256

	keepMap = 1 << 12 // addresses for which a map is never too large
)

// New makes a Gate.
func New(l Limits) *Gate {
	began := time.Now()
	return &Gate{
		limits:     l,
		arrivals:   NewPace(l.ConnectionRate, Burst),
		publishes:  NewPace(l.PublishRate, Burst),
		handshakes: NewPace(l.HandshakeRate, time.Second),
		now:        func() int64 { return Clock(began) },
		visits:     make(map[uint64]Visit),
	}
}

// Limits returns what the gate holds to.
func (g *Gate) Limits() Limits {
	if g == nil {
		return Limits{}
	}
	return g.limits
}

// Unlimited reports whether an address is not limited. One that is not valid, as
// that of a socket of another kind, is not. told: it is known by what a proxy
// says. So anybody may be in any network but loopback, where nobody is who came
// by way of another machine.
func (g *Gate) Unlimited(a netip.Addr, told bool) bool {
	return g != nil && (!a.IsValid() || g.limits.Unlimited.Contains(a) && !(told && a.IsLoopback()))
}

// Enter counts a new connection of an address, valid until Leave. Where it is
// not limited, it is only counted.
func (g *Gate) Enter(a netip.Addr, limited bool) (Visit, Verdict) {
	return g.enter(a, limited, true)
}

// Return is Enter for a connection that has been counted as new before, and left.
func (g *Gate) Return(a netip.Addr, limited bool) (Visit, Verdict) {
	return g.enter(a, limited, false)
}

func (g *Gate) enter(a netip.Addr, limited, arrives bool) (Visit, Verdict) {
	if g == nil {
		return 0, Admitted
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.forgetLocked(now, 2)
	v, e := g.entryLocked(keyOf(a))
	if limited {
		verdict := Admitted
		if g.limits.Connections > 0 && int(e.connections) >= g.limits.Connections {
			verdict = TooMany
		} else if arrives && g.arrivals.Take(&e.arrived, now) > 0 {
			verdict = TooFast
		}
		if verdict != Admitted {
			g.restLocked(v, e, now)
			return 0, verdict
		}
	}
	g.wakeLocked(v, e)
	e.connections++
	return v, Admitted
}

// Leave ends what Enter began; 0 is nobody's.
func (g *Gate) Leave(v Visit) {
	if v == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	e := g.at(v)
	e.connections--
	g.restLocked(v, e, now)
	g.forgetLocked(now, 2)
}

// Handshake counts an upgrade, or says after how long to come again for it. Those
// who are refused get a time each, one behind the other at the rate that is taken: a
// crowd that obeys comes back as a queue, however large it is. Nothing is kept for
// who is in it, and a place that is not used passes with its time.
func (g *Gate) Handshake() (wait time.Duration) {
	if g == nil || g.handshakes == (Pace{}) {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	room := g.handshakes.Take(&g.shaken, now)
	if room == 0 {
		return 0
	}
	return g.handshakes.place(&g.due, now, room)
}

// Again says after how long an address is to come again that Enter found TooFast: the
// next place in a queue of its own, as Handshake gives them. It is a second at least,
// also where there has come to be room since: who is refused is told when to come.
func (g *Gate) Again(a netip.Addr) (wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, known := g.visits[keyOf(a)]
	if !known { // it has been forgotten since
		return time.Second
	}
	e, now := g.at(v), g.now()
	return max(g.arrivals.place(&e.due, now, g.arrivals.room(e.arrived, now)), time.Second)
}

// Publish counts one publication of an address, and says after how long there
// is room for it if there is none.
func (g *Gate) Publish(a netip.Addr) (wait time.Duration) {
	return g.publish(a, func(paid *int64, now int64) time.Duration { return g.publishes.Take(paid, now) })
}

// Published counts n publications that were made, and says how long their
// address is to wait before the next.
func (g *Gate) Published(a netip.Addr, n int) (wait time.Duration) {
	return g.publish(a, func(paid *int64, now int64) time.Duration { return g.publishes.Charge(paid, now, n) })
}

func (g *Gate) publish(a netip.Addr, count func(paid *int64, now int64) time.Duration) time.Duration {
	if g == nil || g.publishes == (Pace{}) {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.forgetLocked(now, 2)
	v, e := g.entryLocked(keyOf(a))
	wait := count(&e.published, now)
	g.restLocked(v, e, now)
	return wait
}

// Network is the address of a visit, or the network of 64 bits that it is one of.
func (g *Gate) Network(v Visit) netip.Prefix {
	g.mu.Lock()
	defer g.mu.Unlock()
	return networkOf(g.at(v).key)
}

// Addresses says how many addresses are known now.
func (g *Gate) Addresses() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.visits)
}

// Sweep forgets addresses that have nothing open and owe nothing any more. It
// is for each tick of a clock.
func (g *Gate) Sweep() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetLocked(g.now(), sweepAtATime)
	if len(g.visits) < g.peak/8 && g.peak > keepMap { // a map does not shrink
		smaller := make(map[uint64]Visit, len(g.visits))
		for key, v := range g.visits {
			smaller[key] = v
		}
		g.visits, g.peak = smaller, len(smaller)
	}
}

// forgetLocked forgets up to n of those that have been idle longest and owe
// nothing. What is first may owe something yet, and then they wait behind it.
func (g *Gate) forgetLocked(now int64, n int) {
	for range n {
		v := g.idle.oldest
		if v == 0 {
			return
		}
		e := g.at(v)
		if g.idle.n <= maxIdle && !g.recovered(e, now) {
			return
		}
		g.wakeLocked(v, e)
		g.freeLocked(v, e)
	}
}

func (g *Gate) recovered(e *entry, now int64) bool {
	return g.arrivals.Recovered(e.arrived, now) && g.publishes.Recovered(e.published, now) && e.due <= now
}

// restLocked lists an address without a connection as idle, or forgets it.
func (g *Gate) restLocked(v Visit, e *entry, now int64) {
	switch {
	case e.connections > 0 || e.idle:
	case g.recovered(e, now):
		g.freeLocked(v, e)
	default:
		e.idle, e.older, e.newer = true, g.idle.newest, 0
		if e.older != 0 {
			g.at(e.older).newer = v
		} else {
			g.idle.oldest = v
		}
		g.idle.newest = v
		g.idle.n++
	}
}

// wakeLocked takes an address off the list of the idle.
func (g *Gate) wakeLocked(v Visit, e *entry) {
	if !e.idle {
		return
	}
	if e.older != 0 {
		g.at(e.older).newer = e.newer
	} else {
		g.idle.oldest = e.newer
	}
	if e.newer != 0 {
		g.at(e.newer).older = e.older
	} else {
		g.idle.newest = e.older
	}
	e.idle, e.older, e.newer = false, 0, 0
	g.idle.n--
}

// entryLocked finds the entry of an address, or makes one.
func (g *Gate) entryLocked(key uint64) (Visit, *entry) {
	if v, ok := g.visits[key]; ok {
		return v, g.at(v)
	}
	v := g.spare
	if v != 0 {
		g.spare = g.at(v).newer
	} else {
		g.last++
		if v = g.last; int(v)/pageSize == len(g.pages) {
			g.pages = append(g.pages, new([pageSize]entry))
		}
	}
	e := g.at(v)
	*e = entry{key: key}
	g.visits[key] = v
	g.peak = max(g.peak, len(g.visits))
	return v, e
}

func (g *Gate) freeLocked(v Visit, e *entry) {
	delete(g.visits, e.key)
	*e = entry{newer: g.spare}
	g.spare = v
}

func (g *Gate) at(v Visit) *entry { return &g.pages[v/pageSize][v%pageSize] }

// ipv4 marks the key of an IPv4 address. As the first half of an IPv6 address it
// would be one of multicast, from which nobody connects.
const ipv4 = 0xffffffff << 32

func keyOf(a netip.Addr) uint64 {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return ipv4 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:])
}

func networkOf(key uint64) netip.Prefix {
	if key&ipv4 == ipv4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(key)))), 32)
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte(append(binary.BigEndian.AppendUint64(nil, key), make([]byte, 8)...))), 64)
}
