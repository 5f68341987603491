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

// awaitNot forgets what a connection that leaves a group has waited for.
func (g *group) awaitNot(slot uint32) {
	waiting := g.view.waiting
	rest := slices.DeleteFunc(waiting[slot], func(a awaited) bool { return a.group == g })
	if len(rest) == 0 {
		delete(waiting, slot)
		return
	}
	waiting[slot] = rest
}

// activation says that the messages of a view's feed come from now on. It is
// posted before the first of them.
type activation struct{ view *view }

// Run implements Task. Who is told may leave at once, so each look is a new one.
func (a *activation) Run() {
	v := a.view
	v.ready = true
	for slot := range v.waiting {
		for len(v.waiting[slot]) > 0 {
			w := v.waiting[slot][0]
			v.waiting[slot] = v.waiting[slot][1:]
			v.members.to.Subscribed(slot, w.group.sub.pattern, w.tag)
		}
	}
	v.waiting = nil
}
