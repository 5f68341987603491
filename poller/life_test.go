package poller

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStopFromWithin stops the loop in each of the places where it calls out.
func TestStopFromWithin(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		f := func(place string, tick time.Duration, arm func(l *Loop, p *probe)) {
			t.Helper()
			l := newLoop(t, Config{Backend: backend, Tick: tick})
			p := &probe{}
			arm(l, p)
			r := start(t, l, p)
			r.wantEnd()
			if r.Post(Func(func() { t.Errorf("%s: a task posted after the end ran", place) })) {
				t.Errorf("%s: Post took a task after the end", place)
			}
		}
		f("Ready", 0, func(l *Loop, p *probe) {
			sockets := newPair(t)
			send(t, sockets.theirs, "x")
			if err := l.Add(sockets.mine, NewToken(1, 1), Readable); err != nil {
				t.Error(err)
			}
			p.ready = func(Token, Events) { l.Stop() }
		})
		f("Tick", time.Millisecond, func(l *Loop, p *probe) { p.tick = func(uint32) { l.Stop() } })
		f("Turn", 0, func(l *Loop, p *probe) { p.turn = func() bool { l.Stop(); return true } })
		f("Task", 0, func(l *Loop, _ *probe) { l.Post(Func(l.Stop)) })
		f("before Run", 0, func(l *Loop, _ *probe) { l.Stop() })
	})
}

// TestStopRunsWhatWasAccepted stops a loop while others post: what Post took has run when Run returns, and nothing else.
func TestStopRunsWhatWasAccepted(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const posters = 8
		var accepted atomic.Int64
		ran := int64(0)
		r := startNew(t, backend, &probe{})
		var posting sync.WaitGroup
		for range posters {
			posting.Go(func() {
				for r.Post(Func(func() { ran++ })) {
					accepted.Add(1)
				}
			})
		}
		until(t, "tasks are under way", func() bool { return accepted.Load() > 1000 })
		var stopping sync.WaitGroup
		for range 3 {
			stopping.Go(r.Stop)
		}
		stopping.Wait()
		if r.Post(Func(func() {})) {
			t.Error("Post took a task after Stop")
		}
		posting.Wait()
		r.wantEnd()
		if ran != accepted.Load() {
			t.Errorf("%d tasks ran, %d were accepted", ran, accepted.Load())
		}
	})
}

// TestTurnFollowsTheLastTask stops the loop with a task still waiting: what it leaves for the end of the turn is done.
func TestTurnFollowsTheLastTask(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		var order []string
		r := startNew(t, backend, &probe{turn: func() bool {
			if len(order) > 0 {
				order = append(order, "turn")
			}
			return true
		}})
		r.Post(Func(func() {
			r.Post(Func(func() { order = append(order, "last") }))
			r.Stop()
			order = append(order, "stop")
		}))
		r.wantEnd()
		if want := []string{"stop", "turn", "last", "turn"}; !slices.Equal(order, want) {
			t.Errorf("the loop ended with %v, want %v", order, want)
		}
	})
}

// TestNothingLeaks makes and ends loops in every way. That no goroutine is left is seen by TestMain.
func TestNothingLeaks(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		sockets := newPair(t)
		send(t, sockets.theirs, "x")
		before := openDescriptors(t)
		for range 20 {
			for _, run := range []bool{true, false} {
				l, err := New(Config{Backend: backend})
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Add(sockets.mine, NewToken(1, 1), Readable); err != nil {
					t.Fatal(err)
				}
				if run {
					p := &probe{t: t, ready: func(Token, Events) { l.Stop() }}
					if err := l.Run(p); err != nil {
						t.Fatal(err)
					}
					if err := l.Run(p); err == nil {
						t.Fatal("a loop ran twice")
					}
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if l.Post(Func(func() {})) {
					t.Fatal("Post took a task after the end")
				}
				if err := l.Add(sockets.mine, NewToken(1, 1), Readable); err == nil {
					t.Fatal("Add took a descriptor after the end")
				}
			}
		}
		if after := openDescriptors(t); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

func TestNewRefusesWhatItCannotDo(t *testing.T) {
	f := func(c Config, words string) {
		t.Helper()
		l, err := New(c)
		if err == nil {
			l.Close()
			t.Errorf("New(%+v) succeeded", c)
			return
		}
		if !strings.Contains(err.Error(), words) {
			t.Errorf("New(%+v): %q does not say %q", c, err, words)
		}
	}
	f(Config{Backend: "kqueue"}, `"epoll" or "easygo"`)
	f(Config{Tick: -1}, "Config.Tick")
	l := newLoop(t, Config{})
	l.Close()
	other, err := New(Config{})
	if err != nil || other.TickLength() != defaultTick {
		t.Errorf("New with defaults: tick %v, %v", other.TickLength(), err)
	}
	other.Close()
}

// preallocated is a task that a hot path would post again and again.
type preallocated struct{ ran chan struct{} }

func (p *preallocated) Run() { p.ran <- struct{}{} }

func TestPostAllocatesNothing(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		r := startNew(t, backend, &probe{})
		task := &preallocated{ran: make(chan struct{}, 1)}
		if n := testing.AllocsPerRun(1000, func() {
			r.Post(task)
			<-task.ran
		}); n != 0 {
			t.Errorf("Post and run of a task: %v allocations, want 0", n)
		}
	})
}

func TestReadyEventAllocatesNothing(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		p := newPair(t)
		buffer, one := make([]byte, 8), []byte("x")
		seen := make(chan struct{}, 1)
		r := startNew(t, backend, &probe{ready: func(Token, Events) {
			if _, err := readRaw(p.mine, buffer); err != 0 {
				t.Errorf("read: %v", err)
			}
			seen <- struct{}{}
		}})
		r.add(p.mine, NewToken(1, 1), Readable)
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := writeRaw(p.theirs, one); err != 0 {
				t.Errorf("write: %v", err)
			}
			<-seen
		}); n != 0 {
			t.Errorf("a ready event: %v allocations, want 0", n)
		}
	})
}
