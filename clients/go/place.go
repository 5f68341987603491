package pushd

import (
	"context"
	"net/url"
	"slices"
	"strconv"
)

// sparePulls is how many there may be beyond those that are needed, before all
// are made anew as few: each is a connection of the server.
const sparePulls = 2

// sparePieces is sparePulls where no new topic is to be placed: so many pieces of
// refused requests go on as they are.
const sparePieces = 16

// attachLocked asks for the client's subscriptions, all of which are absent.
func (l *overHTTP) attachLocked() {
	for _, i := range l.client.order {
		i.on, i.place = nil, ""
	}
	l.wantLocked(l.client.order...)
}

// detachLocked ends what the link has of the client.
func (l *overHTTP) detachLocked() {
	if l.over {
		return
	}
	l.over = true
	for _, p := range l.pulls {
		p.cut = true
		p.cancel(nil)
	}
	l.pulls, l.suspect = nil, nil
	if l.client.link == l {
		l.client.leftAllLocked()
	}
}

// wantLocked has interests placed. What is asked for at once goes into one request.
func (l *overHTTP) wantLocked(all ...*interest) {
	for _, i := range all {
		i.lineUpLocked()
	}
	l.wakeUp()
}

// dropLocked lets go of interests. Their pull goes on for the others on it, and
// what it brings for these is still to be told apart: a stream does not change,
// and the next poll is without them.
func (l *overHTTP) dropLocked(unwanted ...*interest) {
	for _, i := range unwanted {
		i.stand, i.place = absent, ""
	}
	l.wakeUp()
}

// place has each interest that is wanted in a pull. A new one gets another pull,
// and the rest go on; but those that it overlaps move with it, since only what
// comes in one order can be told apart from what they had.
func (l *overHTTP) place() {
	c := l.client
	l.answering.Lock()
	defer l.answering.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.over || l.ctx == nil || l.ctx.Err() != nil {
		return
	}
	var fresh []*interest
	for _, i := range c.order {
		if i.stand == waiting {
			fresh = append(fresh, i)
		}
	}
	fresh = c.withOverlappingLocked(fresh)
	groups := l.groupLocked(fresh)
	spare := sparePulls
	if len(groups) == 0 {
		spare = sparePieces
	}
	if there := len(l.pulls) - len(l.suspect) + len(groups); l.anew || there > spare {
		all := slices.DeleteFunc(slices.Clone(c.order), func(i *interest) bool {
			return i.stand == absent || i.stand == refused || l.searchedLocked(i) && !slices.Contains(fresh, i)
		})
		needed := l.groupLocked(all)
		if l.anew || there > len(needed)+spare {
			fresh, groups, l.anew = all, needed, false
		}
	}
	for _, i := range fresh {
		i.movesLocked()
	}
	for _, group := range groups {
		l.beginLocked(l.newPullLocked(group))
	}
	for _, p := range slices.Clone(l.pulls) {
		if len(p.wantedLocked()) == 0 {
			l.cutLocked(p)
		}
	}
	if len(l.pulls) == 0 && !l.open && !l.greeted {
		l.greeted = true
		l.running.Go(func() { l.idle(l.ctx) })
	}
}

// idle opens the link without a subscription.
func (l *overHTTP) idle(ctx context.Context) {
	if err := l.greet(ctx); err != nil {
		l.end(l.endOf(ctx, err, false))
		return
	}
	l.welcomed("", nil)
}

// newPullLocked makes a pull for interests, which are its own from now on.
func (l *overHTTP) newPullLocked(group []*interest) *pull {
	p := &pull{flow: flow{client: l.client}, link: l, interests: group}
	p.ctx, p.cancel = context.WithCancelCause(l.ctx)
	for _, i := range group {
		i.stand, i.on = asked, &p.flow
	}
	// Who is paused will come back in their company.
	for _, i := range l.client.order {
		if i.stand == absent && slices.ContainsFunc(group, func(other *interest) bool { return i.goesWith(other) }) {
			i.on = &p.flow
		}
	}
	l.pulls = append(l.pulls, p)
	return p
}

func (l *overHTTP) beginLocked(p *pull) {
	p.begun = true
	l.running.Go(p.run)
}

func (l *overHTTP) cutLocked(p *pull) {
	p.cut = true
	p.cancel(nil)
	l.pulls = slices.DeleteFunc(l.pulls, func(other *pull) bool { return other == p })
	l.clearedLocked(p)
}

// suspectLocked has the halves of a refused pull asked for before others that
// wait, so that few do.
func (l *overHTTP) suspectLocked(halves ...*pull) {
	l.suspect = slices.Insert(l.suspect, min(1, len(l.suspect)), halves...)
	l.searchLocked()
}

// clearedLocked is for a pull of which it is known what becomes of it: the next
// that waits has its turn.
func (l *overHTTP) clearedLocked(p *pull) {
	l.suspect = slices.DeleteFunc(l.suspect, func(other *pull) bool { return other == p })
	l.searchLocked()
}

func (l *overHTTP) searchLocked() {
	if len(l.suspect) > 0 && !l.suspect[0].begun {
		l.beginLocked(l.suspect[0])
	}
}

// searchedLocked reports whether an interest may be one that is refused. It stays
// where it is, or the search would begin anew with each new topic.
func (l *overHTTP) searchedLocked(i *interest) bool {
	return !l.anew && slices.ContainsFunc(l.suspect, func(p *pull) bool { return i.on == &p.flow })
}

// movesLocked takes an interest from its pull. What is being replayed beside it
// will be replayed again, from its last message.
func (i *interest) movesLocked() {
	if i.cursor != "" {
		i.place = ""
	}
	for _, p := range i.passed {
		p.with.aheadLocked(i, p.until)
	}
	i.passed = nil
}

// withOverlappingLocked adds to interests those of which a message may be theirs
// too, be it that of another which is paused. Without history nobody is told
// anything again, so there all stay where they are.
func (c *Client) withOverlappingLocked(fresh []*interest) []*interest {
	in := make(map[*interest]bool)
	for _, i := range fresh {
		in[i] = true
	}
	for n := 0; n < len(fresh); n++ {
		for _, i := range c.order {
			if !in[i] && i.mayMoveLocked() && i.goesWith(fresh[n]) {
				in[i] = true
				fresh = append(fresh, i)
			}
		}
	}
	return slices.DeleteFunc(fresh, func(i *interest) bool { return i.stand == absent })
}

// mayMoveLocked reports whether an interest misses nothing when it is asked for again.
func (i *interest) mayMoveLocked() bool {
	switch i.stand {
	case absent, stands:
		return i.cursor != ""
	case asked:
		return i.cursor != "" || !i.begun
	}
	return false
}

// goesWith reports whether two interests overlap, and can be in one request.
func (i *interest) goesWith(other *interest) bool {
	return i.sameWay(other) && (isPattern(i.topic) || isPattern(other.topic)) && overlap(i.topic, other.topic)
}

// sameWay reports whether two interests can be in one request, which has one
// mode and one rate.
func (i *interest) sameWay(other *interest) bool {
	a, b := &i.sub.options, &other.sub.options
	return a.Mode == b.Mode && a.MaxRate == b.MaxRate
}

// groupLocked parts interests into requests that a server can read.
func (l *overHTTP) groupLocked(all []*interest) (groups [][]*interest) {
	most := l.client.http.headRoom(l.client.shown)
	var sizes []int
	for _, i := range all {
		size := len(url.QueryEscape(i.topic)) + len(url.QueryEscape(i.from())) + len("&topic=&cursor=") + 24 // its cursor grows
		at := slices.IndexFunc(groups, func(g []*interest) bool { return g[0].sameWay(i) })
		for at >= 0 && sizes[at]+size > most {
			next := slices.IndexFunc(groups[at+1:], func(g []*interest) bool { return g[0].sameWay(i) })
			if next < 0 {
				at = -1
				break
			}
			at += 1 + next
		}
		if at < 0 {
			groups, sizes = append(groups, nil), append(sizes, 0)
			at = len(groups) - 1
		}
		groups[at] = append(groups[at], i)
		sizes[at] += size
	}
	return groups
}

// from is the cursor behind which an interest goes on.
func (i *interest) from() string {
	if i.place != "" {
		return i.place
	}
	return i.cursor
}

// queryOf is the query that asks for interests.
func queryOf(all []*interest) url.Values {
	o := &all[0].sub.options
	query := url.Values{}
	if o.Mode != Default {
		query.Set("mode", string(o.Mode))
	}
	if o.MaxRate > 0 {
		query.Set("max_rate", strconv.FormatFloat(o.MaxRate, 'f', -1, 64))
	}
	for _, i := range all {
		query.Add("topic", i.topic)
		query.Add("cursor", i.from())
	}
	return query
}
