package poller

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTokenKeepsSlotAndGeneration(t *testing.T) {
	f := func(slot, generation uint32) {
		t.Helper()
		token := NewToken(slot, generation)
		if token.Slot() != slot || token.Generation() != generation {
			t.Errorf("NewToken(%#x, %#x) is slot %#x, generation %#x", slot, generation, token.Slot(), token.Generation())
		}
	}
	f(0, 0)
	f(1, 2)
	f(1<<32-1, 1<<31)
	f(1<<31, 1<<32-1)
}

// report is one call of Ready.
type report struct {
	token  Token
	events Events
}

// canary shows that a loop has looked at its set since: what was ready before the canary was touched has been reported
// when its token comes, in the same batch or an earlier one.
type canary struct {
	r *runner
	pair
	seen chan struct{}
}

var canaryToken = NewToken(1<<31, 7)

func newCanary(t testing.TB) *canary {
	return &canary{pair: newPair(t), seen: make(chan struct{}, 1)}
}

func (c *canary) join(r *runner) {
	c.r = r
	r.add(c.mine, canaryToken, Readable)
}

// ready is for the probe to call; it reports whether the event was the canary's.
func (c *canary) ready(token Token) bool {
	if token != canaryToken {
		return false
	}
	receive(c.r.t, c.mine, 1)
	c.seen <- struct{}{}
	return true
}

// sing returns when the loop has been through its set twice, so that no batch of before is under way.
func (c *canary) sing() {
	c.r.t.Helper()
	for range 2 {
		send(c.r.t, c.theirs, "c")
		wait(c.r.t, c.seen, "the canary")
	}
}

// reporting starts a loop that sends its reports to the channel returned, but the canary's.
func reporting(t *testing.T, backend string) (*runner, *canary, chan report) {
	reports := make(chan report, 1024)
	c := newCanary(t)
	p := &probe{ready: func(token Token, e Events) {
		if c.ready(token) {
			return
		}
		select {
		case reports <- report{token, e}:
		default: // level-triggered: what nobody consumes goes on coming
		}
	}}
	r := startNew(t, backend, p)
	c.join(r)
	return r, c, reports
}

func wantSilence(t *testing.T, c *canary, reports chan report) {
	t.Helper()
	c.sing()
	for len(reports) > 0 {
		<-reports // from before the canary
	}
	c.sing()
	select {
	case got := <-reports:
		t.Errorf("reported %v, want silence", got)
	default:
	}
}

func TestEventsCarryTheirToken(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		r, _, reports := reporting(t, backend)
		for i := range uint32(3) {
			p := newPair(t)
			token := NewToken(i, 1<<31+i)
			r.add(p.mine, token, Readable)
			send(t, p.theirs, "x")
			if got := wait(t, reports, "readiness"); got != (report{token, Readable}) {
				t.Errorf("reported %v, want %v Readable", got, token)
			}
			r.do(func() { receive(t, p.mine, 1) })
			for len(reports) > 0 {
				<-reports
			}
		}
	})
}

func TestInterestChanges(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		r, c, reports := reporting(t, backend)
		p, token := newPair(t), NewToken(3, 1)
		send(t, p.theirs, "x")

		r.add(p.mine, token, 0)
		wantSilence(t, c, reports)
		for _, interest := range []Events{Readable, Writable, Readable | Writable, Writable} {
			r.modify(p.mine, token, interest)
			if got := wait(t, reports, "readiness"); got != (report{token, interest}) {
				t.Errorf("interest %b: reported %v", interest, got)
			}
			r.modify(p.mine, token, 0)
			wantSilence(t, c, reports)
		}
	})
}

func TestHangUpIsReportedUnasked(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		r, _, reports := reporting(t, backend)
		p, token := openPair(t), NewToken(3, 1)
		r.add(p.mine, token, 0)
		unix.Close(p.theirs)
		if got := wait(t, reports, "the hang-up"); got != (report{token, HangUp}) {
			t.Errorf("reported %v, want HangUp alone", got)
		}
		r.do(func() { _ = r.Remove(p.mine); unix.Close(p.mine) })
	})
}

func TestHalfCloseIsIgnoredOnRequest(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		r, c, reports := reporting(t, backend)
		l, err := Listen("127.0.0.1:0", ListenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		p, token := connectedPair(t, l), NewToken(3, 1)
		r.add(p.mine, token, 0)
		if err := unix.Shutdown(p.theirs, unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, reports, "the half close"); got != (report{token, HangUp}) {
			t.Errorf("reported %v, want HangUp", got)
		}

		r.modify(p.mine, token, IgnoreHalfClose)
		wantSilence(t, c, reports)
		r.modify(p.mine, token, IgnoreHalfClose|Writable)
		if got := wait(t, reports, "writability"); got != (report{token, Writable}) {
			t.Errorf("reported %v, want Writable", got)
		}
		r.modify(p.mine, token, IgnoreHalfClose)
		wantSilence(t, c, reports)

		// With both directions shut, it is no half close any more.
		r.do(func() { _ = unix.Shutdown(p.mine, unix.SHUT_WR) })
		if got := wait(t, reports, "the full close"); got != (report{token, HangUp}) {
			t.Errorf("reported %v, want HangUp", got)
		}
		r.do(func() { _ = r.Remove(p.mine) })
	})
}

func TestWhatIsLeftUnreadComesAgain(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const bytes, each = 40, 4
		p := newPair(t)
		got := 0
		all := make(chan struct{})
		r := startNew(t, backend, &probe{ready: func(Token, Events) {
			if got += receive(t, p.mine, each); got == bytes {
				close(all)
			}
		}})
		r.add(p.mine, NewToken(1, 1), Readable)
		send(t, p.theirs, string(make([]byte, bytes)))
		wait(t, all, "the last bytes of a partial read")
	})
}

// TestStaleEventKeepsItsToken replaces, within one batch, a ready descriptor by another that gets the same number.
func TestStaleEventKeepsItsToken(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		pairs := map[Token]pair{NewToken(1, 1): openPair(t), NewToken(2, 1): openPair(t)}
		fresh, freshToken := openPair(t), NewToken(2, 2)
		c := newCanary(t)
		seen := map[Token]int{}
		var r *runner
		var kept, replaced Token
		r = startNew(t, backend, &probe{ready: func(token Token, _ Events) {
			if c.ready(token) {
				return
			}
			seen[token]++
			if kept != 0 {
				return
			}
			for other := range pairs {
				if other == token {
					kept = other
				} else {
					replaced = other
				}
			}
			old := pairs[replaced].mine
			if err := r.Remove(old); err != nil {
				t.Error(err)
			}
			if err := unix.Dup3(fresh.mine, old, unix.O_CLOEXEC); err != nil { // closes old and takes its number
				t.Error(err)
			}
			if err := r.Add(old, freshToken, Readable); err != nil {
				t.Error(err)
			}
			receive(t, pairs[kept].mine, 1)
		}})
		c.join(r)
		r.do(func() {
			for token, p := range pairs {
				if err := r.Add(p.mine, token, Readable); err != nil {
					t.Error(err)
				}
				send(t, p.theirs, "x") // both before the loop looks again: one batch
			}
		})
		c.sing()
		r.do(func() {
			if seen[freshToken] != 0 {
				t.Error("the event of the closed descriptor came under the token of its successor")
			}
			if seen[kept] != 1 || seen[replaced] > 1 {
				t.Errorf("kept was reported %d times and replaced %d times, want 1 and at most 1", seen[kept], seen[replaced])
			}
			send(t, fresh.theirs, "x")
		})
		until(t, "the successor is reported", func() bool {
			count := 0
			r.do(func() { count = seen[freshToken] })
			return count > 0
		})
		r.Stop()
		r.wantEnd()
		for _, p := range []pair{fresh, pairs[kept], pairs[replaced]} {
			unix.Close(p.mine)
			unix.Close(p.theirs)
		}
	})
}

// TestCloseInAnyOrder closes most of a batch while it is delivered, the socket that is reported included.
func TestCloseInAnyOrder(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const count = 200
		pairs := make([]pair, count)
		for i := range pairs {
			pairs[i] = openPair(t)
		}
		open := rand.Perm(count) // slots in the order in which they are closed
		live := make([]bool, count)
		stale := make([]int, count)
		gone := make(chan struct{})
		var r *runner
		closeNext := func() {
			slot := open[0]
			open = open[1:]
			if slot%2 == 0 {
				r.CloseFD(pairs[slot].mine)
			} else {
				if err := r.Remove(pairs[slot].mine); err != nil {
					t.Error(err)
				}
				unix.Close(pairs[slot].mine)
			}
			live[slot] = false
			unix.Close(pairs[slot].theirs)
		}
		r = startNew(t, backend, &probe{ready: func(token Token, _ Events) {
			slot := token.Slot()
			if !live[slot] {
				if stale[slot]++; stale[slot] > 1 {
					t.Errorf("slot %d was reported %d times after it was removed", slot, stale[slot])
				}
				return
			}
			for range 3 {
				if len(open) > 0 {
					closeNext()
				}
			}
			if len(open) == 0 && gone != nil {
				close(gone)
				gone = nil
			}
		}})
		done := gone
		r.do(func() {
			for slot, p := range pairs {
				live[slot] = true
				if err := r.Add(p.mine, NewToken(uint32(slot), 1), Readable); err != nil {
					t.Error(err)
				}
				send(t, p.theirs, "x")
			}
		})
		wait(t, done, "all to be closed")
	})
}

func TestThousandsOfDescriptors(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		count := min(4000, (int(limit.Cur)-openDescriptors(t)-100)/2)
		if count < 100 {
			t.Skipf("the limit of %d descriptors leaves room for %d connections only", limit.Cur, count)
		}
		pairs := make([]pair, count)
		for i := range pairs {
			pairs[i] = newPair(t)
		}
		seen := make([]int, count)
		expected := 0
		complete := make(chan struct{}, 1)
		r := startNew(t, backend, &probe{ready: func(token Token, _ Events) {
			slot := token.Slot()
			receive(t, pairs[slot].mine, 1)
			seen[slot]++
			if expected--; expected == 0 {
				complete <- struct{}{}
			}
		}})
		r.do(func() {
			for slot, p := range pairs {
				if err := r.Add(p.mine, NewToken(uint32(slot), 1), Readable); err != nil {
					t.Error(err)
				}
			}
		})
		for _, every := range []int{3, 1} {
			r.do(func() {
				clear(seen)
				for slot := 0; slot < count; slot += every {
					send(t, pairs[slot].theirs, "x")
					expected++
				}
			})
			wait(t, complete, "every socket with a byte")
			r.do(func() {
				for slot, times := range seen {
					want := 0
					if slot%every == 0 {
						want = 1
					}
					if times != want {
						t.Errorf("of every %d sockets: slot %d was reported %d times, want %d", every, slot, times, want)
					}
				}
			})
		}
	})
}

func TestRefusedDescriptors(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		r, _, reports := reporting(t, backend)
		file, err := os.Create(filepath.Join(t.TempDir(), "regular"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		p, token := newPair(t), NewToken(9, 1)
		closed := openPair(t)
		unix.Close(closed.mine)
		unix.Close(closed.theirs)

		refused := func(what string, err error, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		r.do(func() {
			refused("a regular file", r.Add(int(file.Fd()), token, Readable), syscall.EPERM)
			refused("a closed descriptor", r.Add(closed.mine, token, Readable), syscall.EBADF)
			refused("modify what was not added", r.Modify(p.mine, token, Readable), syscall.ENOENT)
			refused("remove what was not added", r.Remove(p.mine), syscall.ENOENT)
			if err := r.Add(p.mine, wakeToken, Readable); err == nil {
				t.Error("a token of the loop's own generation was taken")
			}
			if err := r.Add(p.mine, token, 0); err != nil {
				t.Error(err)
			}
			refused("add twice", r.Add(p.mine, token, Readable), syscall.EEXIST)
			if err := r.Modify(p.mine, token, Readable); err != nil {
				t.Errorf("after a refused Add the registration of before is gone: %v", err)
			}

			// A refused number is no obstacle to whoever gets it next.
			if err := unix.Dup3(p.mine, closed.mine, unix.O_CLOEXEC); err != nil {
				t.Error(err)
			}
			if err := r.Add(closed.mine, NewToken(10, 1), 0); err != nil {
				t.Error(err)
			}
			refused("remove", r.Remove(closed.mine), nil)
			unix.Close(closed.mine)
			send(t, p.theirs, "x")
		})
		if got := wait(t, reports, "readiness"); got != (report{token, Readable}) {
			t.Errorf("reported %v", got)
		}
	})
}
