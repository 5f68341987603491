package topics

import "sort"

// ring holds the newest entries of a feed in order. Their numbers go up; where
// the feed has history not always by one, since what was deleted from a stream
// leaves a hole.
type ring struct {
	slots []*entry // none, or a power of two
	begin int      // place of the oldest
	count int
}

// minRing is the size of a feed's first ring, a power of two.
const minRing = 8

// nth returns the entry that has n older ones before it.
func (r *ring) nth(n int) *entry { return r.slots[(r.begin+n)&(len(r.slots)-1)] }

// push adds the newest entry, and unshift one that is older than all.
func (r *ring) push(e *entry, max int) {
	r.grow(max)
	r.slots[(r.begin+r.count)&(len(r.slots)-1)] = e
	r.count++
}

func (r *ring) unshift(e *entry, max int) {
	r.grow(max)
	r.begin = (r.begin - 1) & (len(r.slots) - 1)
	r.slots[r.begin] = e
	r.count++
}

// shift takes out the oldest entry.
func (r *ring) shift() *entry {
	e := r.slots[r.begin]
	r.slots[r.begin] = nil
	r.begin = (r.begin + 1) & (len(r.slots) - 1)
	r.count--
	if len(r.slots) > minRing && r.count < len(r.slots)/4 {
		r.resize(len(r.slots) / 2)
	}
	return e
}

// grow makes room for one more, of at most max. Rings begin small and follow
// what they hold: there may be very many feeds.
func (r *ring) grow(max int) {
	if r.count == len(r.slots) {
		r.resize(min(nextPowerOfTwo(max), nextPowerOfTwo(minRing+r.count)))
	}
}

func (r *ring) resize(size int) {
	slots := make([]*entry, size)
	for i := range r.count {
		slots[i] = r.nth(i)
	}
	r.slots, r.begin = slots, 0
}

func nextPowerOfTwo(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// upTo says how many entries have a number of at most seq, where none has one
// of at most floor.
func (r *ring) upTo(seq, floor uint64) int {
	if seq <= floor || r.count == 0 {
		return 0
	}
	n := int(min(seq-floor, uint64(r.count))) // no more can: numbers do not repeat
	if r.nth(n-1).seq <= seq {
		return n
	}
	return sort.Search(n, func(i int) bool { return r.nth(i).seq > seq })
}
