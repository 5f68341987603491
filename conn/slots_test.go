package conn

import (
	"math/rand/v2"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// A slot is used again at once, and the name of who had it before reaches
// nobody. Random openings and endings, compared with a plain list.
func TestStaleNames(t *testing.T) {
	const steps = 5000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	s := &script{}
	ended := map[poller.Token]bool{}
	s.closed = func(id poller.Token, _ Reason) { ended[id] = true }
	table, first := newManual(t, s)
	first.shake()
	live := []*peer{first}
	var stale []poller.Token
	reused := 0

	open := func() {
		p := newPeer(t, table)
		for _, old := range stale {
			if old == p.id {
				t.Fatalf("the name %#x was given again", old)
			}
			if old.Slot() == p.id.Slot() {
				reused++
			}
		}
		p.shake()
		live = append(live, p)
	}
	end := func() {
		i := rng.IntN(len(live))
		p := live[i]
		live = append(live[:i], live[i+1:]...)
		switch rng.IntN(3) {
		case 0: // the client leaves
			p.close()
			table.Ready(p.id, poller.Readable|poller.HangUp)
		case 1: // the server closes, and the client answers
			table.Close(p.id, ReasonKicked)
			p.close()
			table.Turn()
			table.Ready(p.id, poller.Readable|poller.HangUp)
		case 2: // the same within one turn
			table.Close(p.id, ReasonKicked)
			p.close()
			table.Ready(p.id, poller.HangUp)
		}
		table.Turn()
		p.close()
		if !ended[p.id] || table.live(p.id) != nil {
			t.Fatalf("%#x has not ended", p.id)
		}
		if stale = append(stale, p.id); len(stale) > 200 {
			stale = stale[1:]
		}
	}
	meddle := func() {
		if len(stale) == 0 {
			return
		}
		id := stale[rng.IntN(len(stale))]
		table.Ready(id, poller.Readable|poller.Writable|poller.HangUp)
		table.Reply(id, pingFrame)
		table.Hold(id)
		table.Release(id)
		table.Close(id, ReasonShutdown)
		if table.IsOpen(id) {
			t.Fatalf("%#x is open again", id)
		}
		table.Turn()
	}
	for range steps {
		switch n := rng.IntN(10); {
		case n < 3 && len(live) < 40 || len(live) == 0:
			open()
		case n < 6:
			end()
		default:
			meddle()
		}
		if table.Len() != len(live) || len(s.alive) != len(live) {
			t.Fatalf("%d in the table, %d upgraded, %d in the model", table.Len(), len(s.alive), len(live))
		}
	}
	if reused == 0 {
		t.Error("no slot was used twice: nothing was tested")
	}
	for i, p := range live { // each is still its own, and has heard nothing else
		if got := p.read(); got != nil {
			t.Errorf("connection %d heard %q", i, got)
		}
		if table.ID(p.id.Slot()) != p.id {
			t.Errorf("connection %d has another's slot", i)
		}
		table.Send(p.id.Slot(), AppendFrame(nil, ws.OpText, []byte{byte('0' + i)}))
	}
	for i, p := range live {
		if got := p.read(); len(got) != 3 || got[2] != byte('0'+i) {
			t.Errorf("connection %d heard %q", i, got)
		}
	}
}

func TestSlab(t *testing.T) {
	var s slab
	if s.at(0) != nil {
		t.Error("a slot that was never given out has a record")
	}
	var first *record
	for i := range 3 * pageSize {
		slot, r := s.take(i)
		if slot != uint32(i) || r.generation != 1 || s.at(slot) != r {
			t.Fatalf("slot %d, generation %d for the %dth", slot, r.generation, i)
		}
		if i == 0 {
			first = r
		}
	}
	if s.at(0) != first {
		t.Error("records have moved")
	}
	s.free(7)
	if slot, r := s.take(1); slot != 7 || r.generation != 2 {
		t.Errorf("slot %d of generation %d, want the slot last freed and a new generation", slot, r.generation)
	}
	s.free(7)
	s.at(7).generation = lastGeneration
	if _, r := s.take(1); r.generation != 1 {
		t.Errorf("generation %d behind the last", r.generation)
	}
	if s.used != 3*pageSize {
		t.Errorf("%d used", s.used)
	}
}

// Deadlines come in their order, once, and leave no memory behind.
func TestDueList(t *testing.T) {
	var l dueList
	next := uint32(0)
	for i := range uint32(20_000) {
		l.add(poller.NewToken(i, 1), i+10)
		for {
			id, ok := l.next(i)
			if !ok {
				break
			}
			if id.Slot() != next || next+10 > i {
				t.Fatalf("at %d came %d, want %d", i, id.Slot(), next)
			}
			next++
		}
		if next+9 < i {
			t.Fatalf("at %d only those up to %d had come", i, next)
		}
	}
	if cap(l.queue) > 1000 {
		t.Errorf("%d entries of memory for the 10 that wait", cap(l.queue))
	}
	for range keepQueue + 1 {
		l.add(0, 1<<31)
	}
	for {
		if _, ok := l.next(1<<31 + 1); !ok {
			break
		}
	}
	if l.queue != nil {
		t.Error("the memory of a storm is kept")
	}
	l.add(poller.NewToken(1, 1), 5) // the clock of ticks goes round
	if _, ok := l.next(1<<32 - 10); ok {
		t.Error("due before its time")
	}
}
