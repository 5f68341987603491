package server

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
)

// advice is what an answer to a poll says last: how long the client may stay, in ms.
func (a polledAnswer) advice(t *testing.T) int64 {
	t.Helper()
	if len(a.Messages) == 0 {
		t.Fatalf("an answer without advice: %+v", a)
	}
	m := a.Messages[len(a.Messages)-1]
	if m.Type != "reconnect" || m.Reason != "draining" {
		t.Fatalf("an answer ends with %+v, and not with advice", m)
	}
	return m.After
}

// A node that is drained goes on answering polls: of one that waited, of one that
// was between two, and of one that comes. None of them misses anything.
func TestPollDrain(t *testing.T) {
	const window = 3_600_000 // ms: nobody's time comes
	r := start(t)
	waits, between, comes := r.poller("chat.a"), r.poller("chat.a"), r.poller("chat.a")
	waits.wants("wait=0")
	between.wants("wait=0")
	got := waits.waiting("wait=60")
	r.waitPolls(1)
	r.do(202, "POST", "/drain?window=3600", &drainStatus{})
	a := <-got
	if w := a.words(); len(w) != 1 || a.Cursor != waits.cursor || waits.conn == nil {
		t.Errorf("it waited: %+v", a)
	}
	last := map[*pollClient]int64{waits: a.advice(t), between: window, comes: window}
	comes.wants("wait=0", "reconnect  draining")
	var st drainStatus
	if r.do(200, "GET", "/drain", &st); st.State != "closing" || st.Connections != 0 {
		t.Errorf("between polls: %+v", st)
	}
	for n := range 5 {
		r.http("POST", "/publish/chat.a", "", fmt.Sprint(n))
		for p, before := range last {
			a := p.poll("wait=60")
			if w := a.words(); len(w) != 2 || w[0] != fmt.Sprintf("chat.a %d", n) {
				t.Errorf("after the advice: %v", w)
			}
			if last[p] = a.advice(t); last[p] > before || last[p] <= 0 || n > 0 && last[p] < before-window/10 {
				t.Errorf("advised to leave after %d ms, and before that after %d", last[p], before)
			}
		}
	}
	if _, err := r.tryDial(""); err == nil || !strings.Contains(fmt.Sprint(err), "503") {
		t.Errorf("a WebSocket came in: %v", err)
	}
}

// Who does not leave when his time has come is answered once more, and then no more.
func TestPollDrainEnds(t *testing.T) {
	r := start(t)
	p := r.poller("chat.a")
	p.wants("wait=0")
	r.do(202, "POST", "/drain?window=1", &drainStatus{})
	var a polledAnswer
	for ended := false; !ended; ended = p.conn == nil {
		a = p.poll("wait=60")
	}
	if w := a.words(); len(w) != 2 || w[0] != "reconnect  draining" || w[1] != "close  draining" || a.Messages[1].CloseCode != 1012 || a.Messages[0].After != 0 {
		t.Errorf("the last answer: %+v", a)
	}
	eventually(t, "it is drained", func() bool {
		var st drainStatus
		r.do(200, "GET", "/drain", &st)
		return st.State == "drained"
	})
	eventually(t, "the window is over for who comes", func() bool {
		a, err := r.poller("chat.a").try("wait=0")
		return err == nil && a.status == 503
	})
	if a := p.refused("wait=0", 503, "unavailable"); a.header.Get("Retry-After") == "" {
		t.Errorf("503 without Retry-After: %v", a.header)
	}
}

// TestPollDrainPace spreads the times of those who poll over the window: those who
// waited when it began, and those who were between two polls, or come.
func TestPollDrainPace(t *testing.T) {
	const crowd, window, shards = 120, 3_600_000, 2
	r := start(t, func(c *config.Config) { c.Shards, c.Unlimited = shards, nil })
	var waiting []<-chan polledAnswer
	var between []*pollClient
	for n := range crowd {
		p := r.poller("chat.a")
		p.wants("wait=0")
		if n%2 == 0 {
			waiting = append(waiting, p.waiting("wait=60"))
		} else {
			between = append(between, p)
		}
	}
	r.waitPolls(len(waiting))
	r.do(202, "POST", "/drain?window=3600", &drainStatus{})
	var waited, came []int64
	for _, got := range waiting {
		a := <-got
		waited = append(waited, a.advice(t))
	}
	for _, p := range between {
		came = append(came, p.poll("wait=0").advice(t))
	}
	wantSpread(t, "who waited", waited, window, shards)
	wantSpread(t, "who came", came, window, 2*shards)
}

// TestPollDrainPaceClosing counts the answers of polls whose connection ends with
// each, as behind many proxies: at no time have more of them been answered than the
// part of the window that has passed has for them, and each is the last.
func TestPollDrainPaceClosing(t *testing.T) {
	const crowd, window = 120, 1500 * time.Millisecond
	r := start(t, func(c *config.Config) { c.DrainWindow, c.Unlimited = window, nil })
	var waiting []<-chan polledAnswer
	for range crowd {
		p := r.poller("chat.a")
		p.lines = "Connection: close\r\n"
		waiting = append(waiting, p.waiting("wait=60"))
	}
	r.waitPolls(crowd)
	began := time.Now()
	over := r.drain(t.Context())
	var gone [crowd]time.Duration // since the drain began
	var reading sync.WaitGroup
	for n, got := range waiting {
		reading.Go(func() {
			a := <-got
			gone[n] = time.Since(began)
			if w := a.words(); len(w) != 2 || w[0] != "reconnect  draining" || w[1] != "close  draining" || a.Messages[0].After != 0 {
				t.Errorf("the last answer: %+v", a)
			}
		})
	}
	reading.Wait()
	<-over
	slices.Sort(gone[:])
	for n, at := range gone {
		// Two shards round up, each once.
		if most := crowd*float64(at)/float64(window) + 2; float64(n+1) > most {
			t.Fatalf("%d polls of %d were ended within %v of a window of %v", n+1, crowd, at, window)
		}
	}
}

// wantSpread wants no part of a window to have more of some times than its share, and
// a few.
func wantSpread(t *testing.T, who string, times []int64, window, few int) {
	t.Helper()
	slices.Sort(times)
	for from := range times {
		for to := from; to < len(times); to++ {
			share := float64(len(times)) * float64(times[to]-times[from]) / float64(window)
			if n := to - from + 1; float64(n) > math.Ceil(share)+float64(few) {
				t.Fatalf("%s: %d of %d leave between %d and %d ms of %d", who, n, len(times), times[from], times[to], window)
			}
		}
	}
}

// TestPollTimes wants the times to be even however many are given, and whenever.
func TestPollTimes(t *testing.T) {
	now := time.Now()
	for _, many := range []int{1, 10, 1000} {
		var s stays
		var times []int64
		for range many {
			times = append(times, s.next(now, now.Add(time.Hour)).Sub(now).Milliseconds())
		}
		wantSpread(t, fmt.Sprint(many), times, 3_600_000, 3)
		if late := s.next(now, now); late != now {
			t.Errorf("at the end of the window the next is %v behind it", late.Sub(now))
		}
	}
}

// TestPollTimesOfShards wants the shards' times to lie apart, though each of them
// gives its own.
func TestPollTimesOfShards(t *testing.T) {
	const shards = 16
	r := start(t, func(c *config.Config) { c.Shards = shards })
	now := time.Now()
	var times []int64
	for _, sh := range r.shards {
		s := stays{from: sh.stays.from}
		times = append(times, s.next(now, now.Add(time.Hour)).Sub(now).Milliseconds())
	}
	wantSpread(t, "the first of each shard", times, 3_600_000, 1)
}
