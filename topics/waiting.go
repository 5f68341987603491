package topics

import "slices"

// A feed that nobody here has listened to does not bring messages at once: the
// bus has to be asked. Who subscribes meanwhile is told when it does.

// awaited is one answer that a connection waits for.
type awaited struct {
	group *group
	tag   string
	want  Want
	isNew bool // the subscription, and not only the question
	held  bool // nothing is sent to it of the feed until then
}

// maxAwaited bounds the answers for one subscription that a connection waits for.
const maxAwaited = 16

// await notes that a connection is to be told when its subscription stands.
func (g *group) await(slot uint32, a awaited) error {
	v := g.view
	n := 0
	for _, a := range v.waiting[slot] {
		if a.group == g {
			n++
		}
	}
	if n == maxAwaited {
		return ErrTooManyWaiting
	}
	if v.waiting == nil {
		v.waiting = make(map[uint32][]awaited)
	}
	v.wait(slot, a)
	return nil
}

// wait has a connection wait. Where the feed brings messages already, none may
// come before the answer.
func (v *view) wait(slot uint32, a awaited) {
	if v.ready && !a.held {
		a.held = true
		m := v.members
		m.goBehind(slot, m.at(slot), v).held++
	}
	v.waiting[slot] = append(v.waiting[slot], a)
}

// stopWaiting lets a connection have the feed again.
func (v *view) stopWaiting(slot uint32, a awaited) {
	if !a.held {
		return
	}
	m := v.members
	s := m.at(slot)
	if l := m.lagOf(s, v); l != nil {
		if l.held--; l.held == 0 {
			m.goOn(slot, s)
		}
	}
}

// answer tells a connection that is about to unsubscribe what it has waited
// for. Who is told may come back here, so each look is a new one; and it may
// wait for more, which makes no more than there may be at first.
func (g *group) answer(slot uint32) {
	v := g.view
	for range maxAwaited {
		i := slices.IndexFunc(v.waiting[slot], func(a awaited) bool { return a.group == g })
		if i < 0 {
			break
		}
		a := v.waiting[slot][i]
		if v.waiting[slot] = slices.Delete(v.waiting[slot], i, i+1); len(v.waiting[slot]) == 0 {
			delete(v.waiting, slot)
		}
		v.stopWaiting(slot, a)
		v.members.to.Subscribed(slot, g.sub.pattern, a.tag, Standing{}, nil)
	}
}

// activation says that the messages of a view's feed come from now on. It is
// posted before the first of them.
type activation struct {
	view *view
	last uint64 // what comes after this
}

// Run implements Task.
func (a *activation) Run() {
	v := a.view
	v.ready = true
	v.pos = max(v.pos, a.last)
	for _, g := range v.groups {
		g.since = max(g.since, a.last)
	}
	for slot := range v.waiting {
		v.tellOne(slot, nil)
	}
}

// tellOne gives one connection the answers that can be given: all, or those
// that wait for what was read. Who is told may leave at once, and may ask for
// more, so each look is a new one.
func (v *view) tellOne(slot uint32, r *read) {
	m := v.members
	for range len(v.waiting[slot]) {
		if len(v.waiting[slot]) == 0 {
			break
		}
		a := v.waiting[slot][0]
		if v.waiting[slot] = v.waiting[slot][1:]; len(v.waiting[slot]) == 0 {
			delete(v.waiting, slot)
		}
		st, stands := Standing{}, false
		if r == nil || r.err == nil {
			st, stands = m.place(slot, m.at(slot), a.group, a.isNew, a.want)
		} else {
			m.tryLater(slot)
		}
		if !stands {
			if v.waiting == nil {
				v.waiting = make(map[uint32][]awaited)
			}
			v.wait(slot, a)
			continue
		}
		v.stopWaiting(slot, a)
		m.to.Subscribed(slot, a.group.sub.pattern, a.tag, st, nil)
	}
	if len(v.waiting) == 0 {
		v.waiting = nil
	}
}

// refuseAll tells everybody that waits why nothing comes.
func (v *view) refuseAll(err error) {
	for slot := range v.waiting {
		for len(v.waiting[slot]) > 0 {
			w := v.waiting[slot][0]
			v.waiting[slot] = v.waiting[slot][1:]
			v.members.to.Subscribed(slot, w.group.sub.pattern, w.tag, Standing{}, err)
		}
	}
	v.waiting = nil
}

// refusal says that the messages of a view's feed never come: the bus will not
// bring them. The feed has ended when it is posted.
type refusal struct {
	view *view
	err  error
}

// Run implements Task. All subscriptions are taken away before anybody is told:
// who then subscribes again gets another feed.
func (r *refusal) Run() {
	v := r.view
	m := v.members
	for len(v.groups) > 0 {
		g := v.groups[len(v.groups)-1]
		for range len(g.members) { // nothing was fanned out here, so none is a hole
			last := g.members[len(g.members)-1]
			m.leave(last.slot, m.at(last.slot), last.place)
		}
	}
	m.refused = v
	v.refuseAll(r.err)
	m.refused = nil
}
