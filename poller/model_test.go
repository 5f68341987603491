package poller

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzReadiness reads bytes as operations on a few sockets (open, close, replace, change interest, send, receive, close the
// peer), and after each compares what the loop reports with a plain model of what is ready.
func FuzzReadiness(f *testing.F) {
	op := func(kind, interest, slot byte) byte { return kind<<5 | interest<<3 | slot }
	f.Add([]byte{op(opOpen, 1, 0), op(opSend, 0, 0), op(opReceive, 0, 0)})
	f.Add([]byte{op(opOpen, 1, 0), op(opSend, 0, 0), op(opReplace, 1, 0), op(opSend, 0, 0)})
	f.Add([]byte{op(opOpen, 3, 0), op(opOpen, 1, 1), op(opClose, 0, 0), op(opOpen, 1, 2), op(opSend, 0, 2), op(opSend, 0, 1)})
	f.Add([]byte{op(opOpen, 0, 3), op(opHangUp, 0, 3), op(opModify, 3, 3), op(opReplace, 0, 3), op(opSend, 0, 3), op(opModify, 1, 3)})
	f.Add([]byte{op(opOpen, 2, 7), op(opModify, 0, 7), op(opSend, 0, 7), op(opSend, 0, 7), op(opModify, 1, 7), op(opReceive, 0, 7), op(opHangUp, 0, 7)})
	f.Fuzz(func(t *testing.T, ops []byte) {
		const maxOps = 48
		onBothBackends(t, func(t *testing.T, backend string) {
			m := startModel(t, backend)
			for _, b := range ops[:min(len(ops), maxOps)] {
				m.r.do(func() { m.apply(b>>5, Events(b>>3&3), b&7) })
				m.compare()
			}
		})
	})
}

const (
	opOpen = iota
	opClose
	opReplace
	opModify
	opSend
	opReceive
	opHangUp
)

// modelSocket is all that readiness depends on.
type modelSocket struct {
	pair
	open       bool
	generation uint32
	interest   Events
	unread     int
	hungUp     bool
}

// ready is the model.
func (s *modelSocket) ready() Events {
	if !s.open {
		return 0
	}
	e := s.interest & Writable
	if s.unread > 0 || s.hungUp {
		e |= s.interest & Readable
	}
	if s.hungUp {
		e |= HangUp
	}
	return e
}

type model struct {
	t      *testing.T
	r      *runner
	canary *canary

	// Loop-only.
	sockets  [8]modelSocket
	reported map[Token]Events
}

func startModel(t *testing.T, backend string) *model {
	m := &model{t: t, canary: newCanary(t), reported: map[Token]Events{}}
	t.Cleanup(func() { // after the end of the loop
		for slot := range m.sockets {
			m.sockets[slot].close()
		}
	})
	m.r = startNew(t, backend, &probe{ready: func(token Token, e Events) {
		if !m.canary.ready(token) {
			m.reported[token] |= e
		}
	}})
	m.canary.join(m.r)
	return m
}

func (m *model) apply(kind byte, interest Events, slot byte) {
	s := &m.sockets[slot]
	token := NewToken(uint32(slot), s.generation)
	var err error
	switch {
	case kind == opOpen && !s.open, kind == opReplace && s.open:
		if s.open {
			m.r.CloseFD(s.mine)
			if !s.hungUp {
				unix.Close(s.theirs)
			}
		}
		*s = modelSocket{pair: openPair(m.t), open: true, generation: s.generation + 1, interest: interest}
		if err == nil {
			err = m.r.Add(s.mine, NewToken(uint32(slot), s.generation), interest)
		}
	case !s.open:
	case kind == opClose:
		err = m.r.Remove(s.mine)
		s.close()
	case kind == opModify:
		s.interest = interest
		err = m.r.Modify(s.mine, token, interest)
	case kind == opSend && !s.hungUp:
		send(m.t, s.theirs, "x")
		s.unread++
	case kind == opReceive && s.unread > 0:
		receive(m.t, s.mine, 1)
		s.unread--
	case kind == opHangUp && !s.hungUp:
		unix.Close(s.theirs)
		s.hungUp = true
	}
	if err != nil {
		m.t.Error(err)
	}
}

func (s *modelSocket) close() {
	if !s.open {
		return
	}
	s.open = false
	unix.Close(s.mine)
	if !s.hungUp {
		unix.Close(s.theirs)
	}
}

// compare looks at one whole pass over the set, begun after the last operation.
func (m *model) compare() {
	m.t.Helper()
	m.canary.sing()
	m.r.do(func() { clear(m.reported) })
	m.canary.sing()
	m.r.do(func() {
		for slot := range m.sockets {
			s := &m.sockets[slot]
			token := NewToken(uint32(slot), s.generation)
			if got := m.reported[token]; got != s.ready() {
				m.t.Errorf("slot %d (%+v): reported %b, want %b", slot, *s, got, s.ready())
			}
			delete(m.reported, token)
		}
		for token, e := range m.reported {
			m.t.Errorf("slot %d, generation %d is gone and was reported: %b", token.Slot(), token.Generation(), e)
		}
	})
}
