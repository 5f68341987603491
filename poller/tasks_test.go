package poller

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestPostedTasksRunOnceAndInOrder(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const posters, each = 16, 2000
		next := make([]int, posters) // loop-only: the task that each poster's next must be
		r := startNew(t, backend, &probe{})
		var posting sync.WaitGroup
		for poster := range posters {
			posting.Go(func() {
				for i := range each {
					r.Post(Func(func() {
						if next[poster] != i {
							t.Errorf("poster %d: task %d ran where %d was due", poster, i, next[poster])
						}
						next[poster] = i + 1
					}))
					if i%64 == 0 {
						runtime.Gosched() // so that the loop runs dry now and then, and must be woken
					}
				}
			})
		}
		posting.Wait()
		r.do(func() {
			for poster, n := range next {
				if n != each {
					t.Errorf("poster %d: %d tasks ran, want %d", poster, n, each)
				}
			}
		})
	})
}

// TestNoWakeUpIsLost lets a loop fall asleep after each task. With a lost wake-up it would sleep for ever, since nothing
// else comes.
func TestNoWakeUpIsLost(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		r := startNew(t, backend, &probe{})
		ran := make(chan struct{}, 1)
		task := Func(func() { ran <- struct{}{} })
		for i := range 5000 {
			r.Post(task)
			wait(t, ran, "a task posted to a loop that sleeps or is about to")
			for range i % 7 {
				runtime.Gosched() // meet the loop at different moments of its way to sleep
			}
		}
	})
}

// TestTasksBeforeRun posts while nobody runs the loop yet: the first turn must look.
func TestTasksBeforeRun(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		l := newLoop(t, Config{Backend: backend})
		ran := make(chan struct{})
		l.Post(Func(func() { close(ran) }))
		start(t, l, &probe{})
		wait(t, ran, "a task posted before Run")
	})
}

// TestDescriptorsBeforeRun adds ready descriptors before Run, and removes one: nothing may be reported before Run, and
// nothing of the one removed afterwards.
func TestDescriptorsBeforeRun(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		l := newLoop(t, Config{Backend: backend})
		kept, removed := newPair(t), newPair(t)
		for i, p := range []pair{kept, removed} {
			send(t, p.theirs, "x")
			if err := l.Add(p.mine, NewToken(uint32(i), 1), Readable); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Remove(removed.mine); err != nil {
			t.Fatal(err)
		}
		reports := make(chan Token, 2)
		start(t, l, &probe{ready: func(token Token, _ Events) {
			reports <- token
			receive(t, kept.mine, 1)
		}})
		if got := wait(t, reports, "readiness"); got != NewToken(0, 1) {
			t.Errorf("reported %v", got)
		}
	})
}

// TestLongQueueLetsSocketsThrough posts many tasks at once, of which the first makes a socket ready.
func TestLongQueueLetsSocketsThrough(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const tasks = 20 * tasksPerTurn
		p := newPair(t)
		ran, ranBefore := 0, 0
		r := startNew(t, backend, &probe{ready: func(Token, Events) {
			receive(t, p.mine, 1)
			ranBefore = ran
		}})
		r.add(p.mine, NewToken(1, 1), Readable)
		r.do(func() { // while this runs, the tasks it posts pile up
			for i := range tasks {
				r.Post(Func(func() {
					if ran++; i == 0 {
						send(t, p.theirs, "x")
					}
				}))
			}
		})
		r.do(func() {})
		r.do(func() {
			if ran != tasks || ranBefore == 0 || ranBefore == tasks {
				t.Errorf("%d of %d tasks ran, %d of them before the socket was looked at", ran, tasks, ranBefore)
			}
		})
	})
}

// endless is a task that posts itself again until it is told to stop.
type endless struct {
	loop *Loop
	stop bool
}

func (e *endless) Run() {
	if !e.stop {
		e.loop.Post(e)
	}
}

func TestTicksGoOnUnderLoad(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const wanted = 10
		l := newLoop(t, Config{Backend: backend, Tick: 2 * time.Millisecond})
		if l.TickLength() != 2*time.Millisecond {
			t.Errorf("TickLength is %v", l.TickLength())
		}
		ticked := make(chan struct{}, wanted)
		last := uint32(0)
		p := newPair(t)
		send(t, p.theirs, "never read")
		r := start(t, l, &probe{tick: func(now uint32) {
			if now <= last || now != l.Now() {
				t.Errorf("tick %d after %d, Now is %d", now, last, l.Now())
			}
			last = now
			select {
			case ticked <- struct{}{}:
			default:
			}
		}})
		r.add(p.mine, NewToken(1, 1), Readable|Writable)
		load := &endless{loop: l}
		r.Post(load)
		for range wanted {
			wait(t, ticked, "a tick")
		}
		r.do(func() { load.stop = true })
	})
}

// TestTicksCatchUp holds the loop up for several ticks: the clock moves by all of them in one call.
func TestTicksCatchUp(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const length, missed = time.Millisecond, 20
		l := newLoop(t, Config{Backend: backend, Tick: length})
		ticks := make(chan uint32, 1)
		held := false
		start(t, l, &probe{tick: func(now uint32) {
			if held {
				select {
				case ticks <- now:
				default:
				}
				return
			}
			held = true
			time.Sleep(missed * length)
			ticks <- now
		}})
		before := wait(t, ticks, "the tick that holds the loop up")
		after := wait(t, ticks, "the tick after it")
		if after < before+missed {
			t.Errorf("tick %d came after tick %d and %d ticks of sleep", after, before, missed)
		}
		until(t, "the lag of a later tick is known", func() bool { return l.Lag() < missed*length })
	})
}

func TestLagSaysHowLateTheLoopWas(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const length = 50 * time.Millisecond
		l := newLoop(t, Config{Backend: backend, Tick: length})
		lag := make(chan time.Duration, 1)
		l.Post(Func(func() { time.Sleep(2 * length) })) // in the first turn, before any tick
		start(t, l, &probe{tick: func(uint32) {
			select {
			case lag <- l.Lag():
			default:
			}
		}})
		// The first tick was due after one length, and the loop woke after two.
		if got := wait(t, lag, "a tick"); got < length {
			t.Errorf("Lag is %v after the loop was held up for %v", got, 2*length)
		}
	})
}

func TestTurnAsksForMore(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const turns = 1000
		left, socketAt := 0, 0
		done := make(chan struct{})
		p, c := newPair(t), newCanary(t)
		r := startNew(t, backend, &probe{
			ready: func(token Token, _ Events) {
				if !c.ready(token) {
					receive(t, p.mine, 1)
					socketAt = left
				}
			},
			turn: func() bool {
				if left == 0 {
					return false
				}
				if left--; left == turns/2 {
					send(t, p.theirs, "x")
				}
				if left == 0 {
					close(done)
				}
				return left > 0
			},
		})
		c.join(r)
		r.add(p.mine, NewToken(1, 1), Readable)
		r.do(func() { left = turns })
		wait(t, done, "all turns that were asked for")
		c.sing()
		r.do(func() {
			if socketAt == 0 || socketAt > turns/2 {
				t.Errorf("the socket was looked at with %d turns to go, it was ready at %d", socketAt, turns/2)
			}
		})
	})
}

// TestIdleLoopSleeps counts the turns from tick to tick: with nothing to do there is one for each. Some more are a socket
// or task of the start; a loop that spins makes thousands.
func TestIdleLoopSleeps(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		l := newLoop(t, Config{Backend: backend, Tick: 20 * time.Millisecond})
		turns, ticks := 0, 0
		counted := make(chan int, 1)
		r := start(t, l, &probe{
			turn: func() bool { turns++; return false },
			tick: func(uint32) {
				if ticks++; ticks == 5 {
					counted <- turns
				}
			},
		})
		until(t, "the loop sleeps", l.inbox.asleep.Load)
		r.Post(Func(func() {})) // the eventfd of this wake-up must not go on being ready
		if n := wait(t, counted, "ticks"); n > 20 {
			t.Errorf("an idle loop made %d turns in 5 ticks", n)
		}
	})
}

// Before Run a loop's clock stands, until it is asked to catch up.
func TestCatchUp(t *testing.T) {
	l, err := New(Config{Tick: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	time.Sleep(5 * time.Millisecond)
	if n := l.Now(); n != 0 {
		t.Errorf("it is %d before the loop runs", n)
	}
	if l.CatchUp(); l.Now() < 4 {
		t.Errorf("after 5 ticks it is %d", l.Now())
	}
}
