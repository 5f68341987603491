package conn

import (
	"time"

	"github.com/pushd/pushd/poller"
)

// A client that sends more than Config.ByteRate is not read from until that is
// forgiven. Nothing is lost by it: TCP tells the client to wait, and one that
// is only too eager is served at the rate it may have. Frames count besides
// their bytes, since 65,536 empty ones, or pings, are little to read and much
// to look at. Of TLS its own bytes count, for a record of one byte costs hardly
// less than a large one. Of a compressed message counts also what it comes to.
// What a message makes us do is the handler's to bound.

const (
	// frameCost is what a frame counts, in bytes, beside those it has.
	frameCost = 256

	inBurst  = 4 * time.Second  // of the rate that may come at once; at least two messages
	inMemory = 10 * time.Second // of the rate: more than so much beyond the burst is not held against anybody, for a pause must not outlast the heartbeat
)

// inRate is Config.ByteRate in ticks. The zero value has no limit.
type inRate struct {
	perTick uint32 // bytes that a tick forgives
	burst   uint32
	most    uint32
}

func newInRate(perSecond, maxMessage int, tick time.Duration) inRate {
	if perSecond <= 0 {
		return inRate{}
	}
	const ceiling = 1 << 31
	of := func(d time.Duration) uint64 { return min(uint64(float64(perSecond)*d.Seconds()), ceiling) }
	burst := min(max(of(inBurst), 2*uint64(maxMessage)), ceiling)
	return inRate{perTick: uint32(max(of(tick), 1)), burst: uint32(burst), most: uint32(min(burst+of(inMemory), 2*ceiling-1))}
}

// forgive is to be called before received is set anew.
func (t *Table) forgive(r *record) {
	if r.heard != 0 {
		r.heard = t.heardNow(r)
	}
}

func (t *Table) heardNow(r *record) uint32 {
	forgiven := uint64(t.loop.Now()-r.received) * uint64(t.inRate.perTick)
	if forgiven >= uint64(r.heard) {
		return 0
	}
	return r.heard - uint32(forgiven)
}

// charge counts what one read brought, and stops reading if that was too much.
func (t *Table) charge(id poller.Token, r *record, bytes, frames int) {
	if t.inRate.perTick == 0 || r.flags&flagUnlimited != 0 {
		return
	}
	r.heard = uint32(min(uint64(r.heard)+uint64(bytes)+uint64(frames)*frameCost, uint64(t.inRate.most)))
	if r.heard > t.inRate.burst && r.state == stateOpen && r.flags&flagThrottled == 0 {
		r.flags |= flagThrottled
		t.tally.throttled++
		t.deadlines.throttled.add(id, t.loop.Now()+1)
		t.watch(id, r, false, r.flags&flagWriteWatch != 0)
	}
}

// resumeThrottled reads on of those who have been forgiven enough, and of those
// who are closing, whose last is awaited.
func (t *Table) resumeThrottled(now uint32) {
	for !t.frozen {
		id, ok := t.deadlines.throttled.next(now)
		if !ok {
			return
		}
		r := t.live(id)
		if r == nil || r.flags&flagThrottled == 0 {
			continue
		}
		if r.state == stateOpen && t.heardNow(r) > t.inRate.burst {
			t.deadlines.throttled.add(id, now+1)
			continue
		}
		r.flags &^= flagThrottled
		if r.flags&flagBacklog != 0 {
			t.lineUp(id) // what all of them have is too much for one tick
		} else {
			t.readOn(id, r)
		}
	}
}
