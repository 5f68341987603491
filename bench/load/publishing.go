package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load/internal/stamp"
)

// topic is the topic of a message: each in turn, in an order in which neighbours
// are far from each other.
func (r *run) topic(number uint32) uint32 {
	topics := uint64(r.spec.Topics)
	return uint32(uint64(number) * stepFor(topics) % topics)
}

// stepFor returns a step that visits all of n before any again: coprime with
// it, near its golden section.
func stepFor(n uint64) uint64 {
	step := max(1, n*618/1000)
	for gcd(step, n) != 1 {
		step++
	}
	return step
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// publishNext publishes the next message, up to a Flush of the publisher.
func (r *run) publishNext() error {
	topic := r.topic(r.number)
	r.sequence[topic]++
	if err := r.send(topic, r.sequence[topic]); err != nil {
		return err
	}
	r.number++
	return nil
}

// send publishes a message with a stamp.
func (r *run) send(topic, sequence uint32) error {
	fill := stamp.AppendPayload
	if r.spec.Ticks {
		fill = stamp.AppendTick
	}
	r.payload = fill(r.payload[:0], stamp.Stamp{
		Run: r.id, Topic: topic, Sequence: sequence, Number: r.number, Sent: r.clock.Now(),
	}, r.spec.Payload)
	if err := r.publisher.Publish(int(topic), r.payload); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// publish publishes as the spec says, for its duration.
func (r *run) publish(ctx context.Context, w *Window) error {
	if r.spec.InFlight > 0 {
		return r.publishInFlight(ctx, w)
	}
	return r.publishAtRate(ctx, w, r.spec.Duration)
}

// publishAtRate publishes Burst messages together, Rate in a second. Where it
// is late it makes up for it, and says how late it was.
func (r *run) publishAtRate(ctx context.Context, w *Window, duration time.Duration) error {
	behind := newHistogram()
	start, first := time.Now(), r.number
	for {
		done := int(r.number - first)
		due := start.Add(time.Duration(float64(done) / r.spec.Rate * float64(time.Second)))
		if due.Sub(start) >= duration || r.spec.Messages > 0 && done >= r.spec.Messages {
			break
		}
		if err := r.wait(ctx, due, done, start, duration); err != nil {
			return err
		}
		record(behind, time.Since(due))
		for range r.spec.Burst {
			if err := r.publishNext(); err != nil {
				return err
			}
		}
		if err := r.publisher.Flush(); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	var err error
	w.Behind, err = newTimes(behind)
	return err
}

// wait sleeps until a message is due. The runtime's timers are good to a
// millisecond, which at thousands of messages a second makes bursts of what should
// be even; so the last of it is slept in the kernel.
func (r *run) wait(ctx context.Context, due time.Time, done int, start time.Time, duration time.Duration) error {
	const coarse = 2 * time.Millisecond
	if left := time.Until(due); left > coarse {
		r.progress.show(done, int(r.spec.Rate*duration.Seconds()), "messages published")
		if err := pause(ctx, left-coarse); err != nil {
			return err
		}
	}
	if left := time.Until(due); left > 0 {
		t := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&t, nil) // a signal ends it early, and then a message goes out early
	}
	return ctx.Err()
}

// publishInFlight publishes the next message as soon as fewer than InFlight
// are on their way to somebody.
func (r *run) publishInFlight(ctx context.Context, w *Window) error {
	start, first := time.Now(), r.number
	for {
		done := int(r.number - first)
		if elapsed := time.Since(start); elapsed >= r.spec.Duration || r.spec.Messages > 0 && done >= r.spec.Messages {
			break
		}
		for r.flight.size() >= r.spec.InFlight {
			select {
			case <-r.flight.landed:
			case <-time.After(r.spec.Patience):
				w.Overdue += r.flight.abandon()
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		room := r.spec.InFlight - r.flight.size()
		if r.spec.Messages > 0 {
			room = min(room, r.spec.Messages-done)
		}
		for range room {
			r.flight.launch(r.number, r.topic(r.number))
			if err := r.publishNext(); err != nil {
				return err
			}
		}
		if err := r.publisher.Flush(); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		r.progress.show(done, 0, "messages published")
	}
	return nil
}

// flight is the messages that are on their way.
type flight struct {
	landed chan struct{} // something has

	// Static once workers run.
	workers []uint32 // for each topic, how many of them have subscribers

	mu     sync.Mutex
	flying map[uint32]uint32 // by number, how many workers wait for it
}

func newFlight() *flight {
	return &flight{landed: make(chan struct{}, 1), flying: map[uint32]uint32{}}
}

// launch notes a message that is about to be published.
func (f *flight) launch(number, topic uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.workers[topic] > 0 {
		f.flying[number] = f.workers[topic]
	}
}

// complete takes what a worker says all its subscribers have. Each worker has a
// goroutine that calls it.
func (f *flight) complete(numbers []uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, number := range numbers {
		switch left := f.flying[number]; left {
		case 0: // given up
		case 1:
			delete(f.flying, number)
		default:
			f.flying[number] = left - 1
		}
	}
	select {
	case f.landed <- struct{}{}:
	default:
	}
}

func (f *flight) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.flying)
}

// abandon gives up what is in flight, and returns how many messages that were.
func (f *flight) abandon() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.flying)
	clear(f.flying)
	return n
}
