package natsbus

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/topics"
)

// lossPeriod is how often subscriptions that lost messages are looked at
// again, while they may be losing more.
const lossPeriod = 200 * time.Millisecond

// retryPeriod is how often what could not be subscribed is tried again, while
// no other event makes run do so.
const retryPeriod = time.Second

// interests keeps the live connection's subscriptions as callers want them.
//
// All subscriptions feed one channel: that costs no goroutine for each, and
// keeps the order over all subjects. While NATS is away they are left as they
// are, because nats.go would block; what changed is made up for afterwards.
type interests struct {
	// Static.
	prefix    string
	histories map[string]*history // by namespace
	link      *link
	arrived   chan *nats.Msg
	reader    *reader
	log       *slog.Logger
	wake      chan struct{} // holds one: something waits, or closed

	// Only run touches these.
	entries map[topics.Interest]*entry
	stale   map[topics.Interest]struct{} // entries whose subscriptions are not as wanted
	owners  map[*nats.Subscription]topics.Interest
	losing  map[*nats.Subscription]uint64 // subscriptions that ever lost messages, and how many were told
	unsure  map[topics.Interest]struct{}  // answered with ErrAway, and Lost is not yet told
	gap     bool                          // the link came back, and LostAll is not yet told

	// Guarded by mu.
	mu     sync.Mutex
	queue  changes
	closed bool

	// Atomic.
	standing atomic.Int64
	lost     atomic.Uint64
}

// changes is what run takes in one go.
type changes struct {
	wishes   []wish
	losing   map[*nats.Subscription]struct{} // nats.go reported a loss
	tooLarge map[*nats.Subscription]struct{} // the reader dropped a message
	restored bool                            // the link came back
}

// wish is a queued Subscribe, or Unsubscribe where ready is nil.
type wish struct {
	in    topics.Interest
	ready func(error)
}

// entry is an interest that stands, or is still to be ended at the server.
type entry struct {
	wanted bool
	subs   []*nats.Subscription // one for each subject; nil: not subscribed
}

func newInterests(prefix string, histories map[string]*history, l *link, arrived chan *nats.Msg, r *reader, log *slog.Logger) *interests {
	return &interests{
		prefix:    prefix + ".",
		histories: histories,
		link:      l,
		arrived:   arrived,
		reader:    r,
		log:       log,
		wake:      make(chan struct{}, 1),
		entries:   make(map[topics.Interest]*entry),
		stale:     make(map[topics.Interest]struct{}),
		owners:    make(map[*nats.Subscription]topics.Interest),
		losing:    make(map[*nats.Subscription]uint64),
		unsure:    make(map[topics.Interest]struct{}),
	}
}

func (s *interests) subscribe(in topics.Interest, ready func(error)) {
	if ready == nil {
		ready = func(error) {}
	}
	s.wish(wish{in, ready}) // false: closed, and whoever asks is about to end too
}

func (s *interests) unsubscribe(in topics.Interest) { s.wish(wish{in: in}) }

func (s *interests) wish(w wish) bool {
	return s.change(func(c *changes) { c.wishes = append(c.wishes, w) })
}

func (s *interests) linkRestored() {
	s.change(func(c *changes) { c.restored = true })
}

func (s *interests) messageDropped(sub *nats.Subscription) {
	s.change(func(c *changes) {
		if c.losing == nil {
			c.losing = make(map[*nats.Subscription]struct{})
		}
		c.losing[sub] = struct{}{}
	})
}

// messagesTooLarge keeps nothing of subs.
func (s *interests) messagesTooLarge(subs map[*nats.Subscription]struct{}) {
	s.change(func(c *changes) {
		if c.tooLarge == nil {
			c.tooLarge = make(map[*nats.Subscription]struct{})
		}
		maps.Copy(c.tooLarge, subs)
	})
}

// change queues something for run and reports whether run will see it.
func (s *interests) change(add func(*changes)) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	add(&s.queue)
	s.mu.Unlock()
	s.kick()
	return true
}

func (s *interests) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *interests) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.kick()
}

func (s *interests) take() (taken changes, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, s.queue = s.queue, changes{}
	return taken, s.closed
}

func (s *interests) run() {
	losses, retries := time.NewTicker(lossPeriod), time.NewTicker(retryPeriod)
	defer losses.Stop()
	defer retries.Stop()
	for {
		var loss, retry <-chan time.Time // nil: nothing to look after
		if s.gap || len(s.losing) > 0 {
			loss = losses.C
		}
		if len(s.stale) > 0 || len(s.unsure) > 0 {
			retry = retries.C
		}
		select {
		case <-s.wake:
		case <-loss:
		case <-retry:
		}
		c, closed := s.take()
		if closed {
			for _, w := range c.wishes {
				if w.ready != nil {
					w.ready(ErrClosed)
				}
			}
			return
		}
		s.gap = s.gap || c.restored
		s.fulfil(c.wishes)
		s.findLosses(c.losing)
		for sub := range c.tooLarge {
			if in, known := s.owners[sub]; known {
				s.reader.tell(in)
			}
		}
	}
}

// fulfil brings the subscriptions in line with wishes, and with those of the
// time when NATS was away; one round trip serves all. Gaps are told here, after
// the round trip: told before the subscriptions work again, they would end too early.
func (s *interests) fulfil(wishes []wish) {
	var waiting []wish
	for _, w := range wishes {
		if err := topics.CheckTopic(w.in.Name); err != nil {
			if w.ready != nil {
				w.ready(fmt.Errorf("interest %q: %w", w.in.Name, err))
			}
			continue
		}
		s.note(w)
		if w.ready != nil {
			waiting = append(waiting, w)
		}
	}

	err := s.reconcile()
	var denied map[string]bool
	if err == nil && (len(waiting) > 0 || len(s.unsure) > 0 || s.gap) {
		err = s.link.flush()
		for _, subject := range s.link.refused() {
			if denied == nil {
				denied = make(map[string]bool)
			}
			denied[subject] = true
		}
	}
	if err == nil {
		s.tellGaps()
	}
	for _, w := range waiting {
		_, stale := s.stale[w.in]
		if err != nil || stale {
			s.unsure[w.in] = struct{}{}
		}
		switch {
		case err == nil && stale:
			w.ready(fmt.Errorf("%w: cannot subscribe to %s", ErrAway, s.prefix+w.in.Name))
		case err == nil && s.isDenied(w.in, denied):
			w.ready(fmt.Errorf("%w: %s", ErrDenied, s.prefix+w.in.Name))
		default:
			w.ready(err)
		}
	}
}

// tellGaps is called when a round trip has shown that all subscriptions work
// which are not stale. Nobody else tells of what the unsure ones missed: the
// link may have stayed up while the server did not answer.
func (s *interests) tellGaps() {
	if s.gap {
		s.reader.tellAll()
	}
	for in := range s.unsure {
		if _, stale := s.stale[in]; stale {
			continue
		}
		delete(s.unsure, in)
		if s.entries[in] != nil && !s.gap {
			s.reader.tell(in)
		}
	}
	s.gap = false
}

// note records what is wanted from now on.
func (s *interests) note(w wish) {
	e := s.entries[w.in]
	if e == nil {
		if w.ready == nil {
			return
		}
		e = &entry{}
		s.entries[w.in] = e
	}
	wanted := w.ready != nil
	if wanted != e.wanted {
		e.wanted = wanted
		if wanted {
			s.standing.Add(1)
		} else {
			s.standing.Add(-1)
		}
	}
	if wanted == (e.subs != nil) {
		delete(s.stale, w.in)
	} else {
		s.stale[w.in] = struct{}{}
	}
	if !wanted && e.subs == nil {
		delete(s.entries, w.in)
	}
}

// reconcile sends SUB and UNSUB for what is stale, without flushing. What
// cannot be subscribed stays stale, and does not keep the rest from it.
func (s *interests) reconcile() error {
	if !s.link.up() {
		return ErrAway
	}
	for in := range s.stale {
		e := s.entries[in]
		if !e.wanted {
			s.end(e)
			delete(s.entries, in)
		} else if err := s.begin(in, e); err != nil {
			s.log.Debug("subscribing", "subject", s.prefix+in.Name, "err", err)
			continue
		}
		delete(s.stale, in)
	}
	return nil
}

// subjects are what an interest subscribes to. The two of a namespace are
// distinct, since "ns.>" does not match "ns", so no message comes twice. Of a
// namespace with history it is what its stream republishes; of a topic that its
// stream does not store there is none.
func (s *interests) subjects(in topics.Interest) []string {
	h := s.histories[topics.Namespace(in.Name)]
	switch {
	case h == nil && in.Namespace:
		return []string{s.prefix + in.Name, s.prefix + in.Name + ".>"}
	case h == nil:
		return []string{s.prefix + in.Name}
	case in.Namespace:
		return h.lives
	}
	if subject, all := h.live.apply(h.subject(in.Name)); all {
		return []string{subject}
	}
	return nil
}

// begin subscribes to an interest's subjects.
func (s *interests) begin(in topics.Interest, e *entry) error {
	subjects := s.subjects(in)
	subs := make([]*nats.Subscription, 0, len(subjects))
	for _, subject := range subjects {
		sub, err := s.link.nc.ChanSubscribe(subject, s.arrived)
		if err != nil {
			s.unsubscribeAll(subs)
			return err
		}
		subs = append(subs, sub)
		s.owners[sub] = in
	}
	e.subs = subs
	return nil
}

func (s *interests) end(e *entry) {
	for _, sub := range e.subs {
		s.account(sub) // the last chance, reported or not
		delete(s.losing, sub)
	}
	s.unsubscribeAll(e.subs)
	e.subs = nil
}

func (s *interests) unsubscribeAll(subs []*nats.Subscription) {
	for _, sub := range subs {
		delete(s.owners, sub)
		if err := sub.Unsubscribe(); err != nil {
			s.log.Debug("unsubscribing", "subject", sub.Subject, "err", err)
		}
	}
}

// isDenied reports whether one of an interest's subjects is among denied. The
// interest stands all the same: after a reconnect it may be allowed.
func (s *interests) isDenied(in topics.Interest, denied map[string]bool) bool {
	if len(denied) == 0 {
		return false
	}
	return slices.ContainsFunc(s.subjects(in), func(subject string) bool { return denied[subject] })
}

// findLosses tells which interests lost messages because the channel was full.
//
// nats.go reports the first loss of an episode alone, which ends when the
// subscription's next message finds room. So a reported subscription is looked
// at again, but only after the channel was full, and the others never are.
func (s *interests) findLosses(reported map[*nats.Subscription]struct{}) {
	for sub := range reported {
		_, known := s.losing[sub]
		if _, owned := s.owners[sub]; owned && !known {
			s.losing[sub] = 0
		}
	}
	if len(s.losing) == 0 || (!s.reader.wasFull.Swap(false) && len(reported) == 0) {
		return
	}
	var messages uint64
	subjects := 0
	for sub := range s.losing {
		if n := s.account(sub); n > 0 {
			messages += n
			subjects++
			s.reader.tell(s.owners[sub])
		}
	}
	if messages > 0 {
		s.log.Warn("messages dropped", "reason", DropPendingFull, "messages", messages, "subjects", subjects)
	}
}

// account counts what a subscription lost since the last time, and returns it.
func (s *interests) account(sub *nats.Subscription) uint64 {
	dropped, err := sub.Dropped()
	if err != nil { // the connection is closed
		return 0
	}
	n := uint64(dropped) - s.losing[sub]
	if n > 0 {
		s.losing[sub] = uint64(dropped)
		s.lost.Add(n)
	}
	return n
}
