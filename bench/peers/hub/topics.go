package hub

import "sync"

// Topics says who is subscribed to what. C is the peer's connection. The zero value is an empty table.
type Topics[C any] struct {
	mu     sync.RWMutex
	byName map[string]*topic[C] // only topics that have members

	walks sync.Pool // of *[]C: the members that a walk goes over
}

type topic[C any] struct {
	name    string
	members map[*Member[C]]struct{}
}

// Member is a connection's seat in the table, one for each connection.
type Member[C any] struct {
	Conn   C
	topics []*topic[C] // guarded by Topics.mu
}

// Subscribe changes nothing where m is subscribed already.
func (t *Topics[C]) Subscribe(m *Member[C], name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.byName[name]
	if at == nil {
		at = &topic[C]{name: name, members: make(map[*Member[C]]struct{})}
		if t.byName == nil {
			t.byName = make(map[string]*topic[C])
		}
		t.byName[name] = at
	}
	if _, ok := at.members[m]; !ok {
		at.members[m] = struct{}{}
		m.topics = append(m.topics, at)
	}
}

// Unsubscribe changes nothing where m is not subscribed.
func (t *Topics[C]) Unsubscribe(m *Member[C], name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, at := range m.topics {
		if at.name == name {
			m.topics = append(m.topics[:i], m.topics[i+1:]...)
			t.remove(m, at)
			return
		}
	}
}

// Leave takes m out of all topics, when its connection has ended.
func (t *Topics[C]) Leave(m *Member[C]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, at := range m.topics {
		t.remove(m, at)
	}
	m.topics = nil
}

func (t *Topics[C]) remove(m *Member[C], at *topic[C]) {
	delete(at.members, m)
	if len(at.members) == 0 {
		delete(t.byName, at.name)
	}
}

// Each calls send for each connection that was subscribed when Each began. It holds no lock meanwhile: send may take its time, and
// may end in a Leave.
func (t *Topics[C]) Each(name string, send func(C)) {
	walk, _ := t.walks.Get().(*[]C)
	if walk == nil {
		walk = new([]C)
	}
	t.mu.RLock()
	if at := t.byName[name]; at != nil {
		for m := range at.members {
			*walk = append(*walk, m.Conn)
		}
	}
	t.mu.RUnlock()
	for _, c := range *walk {
		send(c)
	}
	clear(*walk)
	*walk = (*walk)[:0]
	t.walks.Put(walk)
}
