package topics

import "slices"

// A feed that nobody here has listened to does not bring messages at once: the
// bus has to be asked. Who subscribes meanwhile is told when it does.

// awaited is one answer that a connection waits for.
type awaited struct {
	group *group
	tag   string
}

// maxAwaited bounds the answers for one subscription that a connection waits for.
const maxAwaited = 16

// await notes that a connection is to be told when its subscription stands.
func (g *group) await(slot uint32, tag string) error {
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
	v.waiting[slot] = append(v.waiting[slot], awaited{g, tag})
	return nil
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
		tag := v.waiting[slot][i].tag
		if v.waiting[slot] = slices.Delete(v.waiting[slot], i, i+1); len(v.waiting[slot]) == 0 {
			delete(v.waiting, slot)
		}
		v.members.to.Subscribed(slot, g.sub.pattern, tag, Standing{}, nil)
	}
}

// activation says that the messages of a view's feed come from now on. It is
// posted before the first of them.
type activation struct{ view *view }

// Run implements Task.
func (a *activation) Run() {
	a.view.ready = true
	a.view.tell(nil)
}

// tell gives everybody the answer that they wait for. Who is told may leave at
// once, so each look is a new one.
func (v *view) tell(err error) {
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
	v.tell(r.err)
	m.refused = nil
}
