package pushd

// item is what waits for a consumer: a message, a gap, or a position alone.
type item struct {
	message Message
	gap     *Gap
	cursor  string      // of a position
	by      *interest   // that it is for
	more    []*interest // further ones
}

// queue is a ring that grows.
type queue struct {
	items    []item // of a length that is a power of two
	first    int
	count    int
	messages int
	bytes    int // of messages
}

func (q *queue) push(it item) {
	if q.count == len(q.items) {
		grown := make([]item, max(16, 2*len(q.items)))
		for n := range q.count {
			grown[n] = *q.at(n)
		}
		q.items, q.first = grown, 0
	}
	q.count++
	*q.at(q.count - 1) = it
	if it.message.raw != nil {
		q.messages++
		q.bytes += len(it.message.raw)
	}
}

func (q *queue) pop() item {
	at := q.at(0)
	it := *at
	*at = item{} // for the garbage collector
	q.first++
	q.count--
	if it.message.raw != nil {
		q.messages--
		q.bytes -= len(it.message.raw)
	}
	return it
}

func (q *queue) at(n int) *item { return &q.items[(q.first+n)&(len(q.items)-1)] }

// The reasons of gaps that a client finds by itself.
const (
	slow         = "slow"         // for want of room
	disconnected = "disconnected" // nothing says what came meanwhile
)

// fate is what became of a message.
type fate uint8

const (
	pushed  fate = iota
	passing      // the subscription takes none now
	full         // it does not fit, and history has it
	dropped      // an older one has made room for it, or it is gone itself; the first of a run
)

// push hands a message to the consumer.
func (s *Subscription) push(m *Message, by []*interest) fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.paused && m.Cursor != "" {
		return passing
	}
	how := pushed
	if s.queue.messages > 0 && (s.queue.messages >= s.options.Buffer || s.queue.bytes+len(m.raw) > bufferBytes) {
		if m.Cursor != "" {
			s.paused = true // in the same breath: a consumer that takes the last one resumes it
			return full
		}
		head := s.queue.at(0)
		if head.message.raw == nil || head.message.Cursor != "" { // what history has is not dropped for it
			return s.lost(by[0])
		}
		how = s.dropHead()
	}
	it := item{message: *m, by: by[0]}
	if len(by) > 1 {
		it.more = append(it.more, by[1:]...)
	}
	s.add(it)
	return how
}

// dropHead gives up the oldest message, behind the gap that tells of those before it.
func (s *Subscription) dropHead() fate {
	head := s.queue.pop()
	if s.headGap != nil {
		s.headGap.Lost++
		return pushed
	}
	s.headGap = &Gap{Topic: head.by.topic, Reason: slow, Lost: 1}
	return dropped
}

// lost notes at the end of the queue that a message is missing.
func (s *Subscription) lost(i *interest) fate {
	if last := s.queue.at(s.queue.count - 1); last.gap != nil && last.gap.Lost > 0 && last.by == i {
		last.gap.Lost++
		return passing
	}
	s.add(item{gap: &Gap{Topic: i.topic, Reason: slow, Lost: 1}, by: i})
	return dropped
}

func (s *Subscription) add(it item) {
	s.queue.push(it)
	s.wake()
}

func (s *Subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default: // nobody has looked since the last
	}
}

// pushGap puts a gap where it belongs.
func (s *Subscription) pushGap(i *interest, gap *Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if n := s.queue.count; n > 0 {
		if last := s.queue.at(n - 1); last.gap != nil && last.by == i && last.gap.Reason == gap.Reason && !gap.Resumed {
			joined := *last.gap // the one before it was told, and stays as it was
			joined.To = gap.To
			last.gap = &joined
			return
		}
	}
	s.add(item{gap: gap, by: i})
}

// stood is for an interest that stands from a cursor.
func (s *Subscription) stood(i *interest, cursor string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.taken = true
	if !s.began {
		s.began = true
		close(s.first)
	}
	switch {
	case cursor == i.taken:
	case s.queue.count == 0:
		i.taken = cursor
	default:
		s.add(item{cursor: cursor, by: i})
	}
}

// take returns what is next; neither where there is nothing, and over says that
// nothing will come.
func (s *Subscription) take() (m Message, gap *Gap, ok, over bool) {
	s.mu.Lock()
	for !ok {
		if s.headGap != nil {
			gap, s.headGap, ok = s.headGap, nil, true
			break
		}
		if s.queue.count == 0 {
			over = s.over
			break
		}
		it := s.queue.pop()
		switch {
		case it.gap != nil:
			gap, ok = it.gap, true
		case it.message.raw == nil:
			it.by.taken = it.cursor
		default:
			m, ok = it.message, true
			if m.Cursor != "" {
				it.by.taken = m.Cursor
				for _, i := range it.more {
					i.taken = m.Cursor
				}
			}
		}
	}
	if s.queue.count > 0 {
		s.wake() // another may wait
	}
	resume := s.paused && s.queue.messages <= s.options.Buffer/4
	if resume {
		s.paused = false
	}
	s.mu.Unlock()
	if resume {
		s.resume()
	}
	return m, gap, ok, over
}

func (s *Subscription) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

// resume asks for what has come since the consumer fell behind.
func (s *Subscription) resume() {
	c := s.client
	c.mu.Lock()
	event := &Paused{}
	var back []*interest
	for _, i := range s.interests {
		if i.stand == absent && !i.gone {
			event.Topics = append(event.Topics, i.topic)
			back = append(back, i)
		}
	}
	if c.link != nil {
		c.link.wantLocked(back...)
	}
	c.mu.Unlock()
	c.tell(event)
}
