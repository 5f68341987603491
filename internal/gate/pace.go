package gate

import (
	"math/rand/v2"
	"time"
)

// Pace is a rate with a burst: the generic cell rate algorithm (ITU-T I.371,
// "leaky bucket as a meter"). All it keeps of one client is the time at which
// what that did is paid for, in microseconds of a Clock. The zero Pace has no limit.
type Pace struct {
	interval int64 // what one costs, in microseconds; 0: nothing
	burst    int64 // how far ahead of the time it may be paid for
}

// maxDebt is how many bursts Charge lets somebody owe.
const maxDebt = 4

// NewPace allows for so many a second, and at once as many as in the time burst,
// at least one. perSecond 0: no limit.
func NewPace(perSecond int, burst time.Duration) Pace {
	if perSecond <= 0 {
		return Pace{}
	}
	interval := max(1, time.Second.Microseconds()/int64(perSecond))
	return Pace{interval, max(interval, burst.Microseconds())}
}

// Clock is the time of a Pace, from some time on.
func Clock(since time.Time) int64 { return time.Since(since).Microseconds() }

// Take takes one, or says after how long there will be one again.
func (p Pace) Take(paid *int64, now int64) (wait time.Duration) {
	if wait = p.room(*paid, now); wait == 0 {
		*paid = max(*paid, now) + p.interval
	}
	return wait
}

// room is after how long there is one.
func (p Pace) room(paid, now int64) time.Duration {
	return time.Duration(max(max(paid-now, 0)+p.interval-p.burst, 0)) * time.Microsecond
}

// place gives one who finds no room his time to come again: behind the last who was
// given one, of whom due is all that is kept, and not before there is room.
func (p Pace) place(due *int64, now int64, room time.Duration) (wait time.Duration) {
	*due = max(*due+p.interval, now+room.Microseconds())
	if longest := now + Queue.Microseconds(); *due > longest {
		*due = longest
		return Queue/2 + rand.N(Queue/2) // there is no order any more
	}
	return time.Duration(*due-now) * time.Microsecond
}

// Charge counts n more that are done already, and says after how long they are
// within the burst.
func (p Pace) Charge(paid *int64, now int64, n int) (wait time.Duration) {
	debt := min(max(*paid-now, 0)+p.interval*int64(n), maxDebt*p.burst)
	*paid = now + debt
	return time.Duration(max(debt-p.burst, 0)) * time.Microsecond
}

// Recovered reports whether nothing is owed any more.
func (p Pace) Recovered(paid, now int64) bool { return paid <= now }
