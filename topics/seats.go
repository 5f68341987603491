package topics

// What a connection has in its shard's Members lies beside its slot, without a
// pointer: up to two subscriptions in place, more of them and its cursors, if
// it is behind, in an extra.

// seat is one subscription: the group, and where in it the connection stands.
type seat struct {
	group uint32
	index uint32
}

const inlineSeats = 2

// seating is a connection's subscriptions.
type seating struct {
	inline [inlineSeats]seat // while there are no more
	count  uint32
	extra  uint32 // 0: none
	due    uint32 // its place in Members.blend, from 1; 0: none
	format Format
	behind bool // extra has lags
	again  bool // in Members.again
}

// extra is what only few connections have.
type extra struct {
	seats []seat // all of them, once they do not fit inline
	lags  []*lag
}

const (
	pageBits = 10
	pageSize = 1 << pageBits
)

// extras has the extras of a shard. Index 0 is nobody's.
type extras struct {
	all   []*extra
	spare []uint32
}

// at returns the seating of a slot, nil where there never was one.
func (m *Members) at(slot uint32) *seating {
	if page := slot >> pageBits; page < uint32(len(m.pages)) && m.pages[page] != nil {
		return &m.pages[page][slot%pageSize]
	}
	return nil
}

// seating is at, making room for a slot that is new.
func (m *Members) seating(slot uint32) *seating {
	page := slot >> pageBits
	for page >= uint32(len(m.pages)) {
		m.pages = append(m.pages, nil)
	}
	if m.pages[page] == nil {
		m.pages[page] = new([pageSize]seating)
	}
	return &m.pages[page][slot%pageSize]
}

// seatsOf returns a connection's subscriptions, to be changed in place.
func (m *Members) seatsOf(s *seating) []seat {
	if s.count <= inlineSeats {
		return s.inline[:s.count]
	}
	return m.extras.all[s.extra].seats
}

// placeIn returns where among its seats a connection has a group, -1 if it has not.
func (m *Members) placeIn(s *seating, g *group) int {
	for i, at := range m.seatsOf(s) {
		if at.group == g.index {
			return i
		}
	}
	return -1
}

// sit adds a seat and returns its place.
func (m *Members) sit(s *seating, at seat) (place uint32) {
	place = s.count
	switch {
	case s.count < inlineSeats:
		s.inline[place] = at
	case s.count == inlineSeats:
		x := m.extraOf(s)
		x.seats = append(append(x.seats, s.inline[:]...), at)
	default:
		x := m.extraOf(s)
		x.seats = append(x.seats, at)
	}
	s.count++
	return place
}

// stand takes a seat away; the last one moves to its place.
func (m *Members) stand(s *seating, place uint32) {
	seats := m.seatsOf(s)
	end := s.count - 1
	if place != end {
		moved := seats[end]
		seats[place] = moved
		m.groups[moved.group].members[moved.index].place = place
	}
	s.count = end
	switch {
	case end == inlineSeats:
		copy(s.inline[:], seats)
		m.extras.all[s.extra].seats = nil
		m.trimExtra(s)
	case end > inlineSeats:
		m.extras.all[s.extra].seats = seats[:end]
	}
}

// extraOf returns a connection's extra, giving it one if it has none.
func (m *Members) extraOf(s *seating) *extra {
	x := &m.extras
	switch {
	case s.extra != 0:
		return x.all[s.extra]
	case len(x.spare) > 0:
		s.extra = x.spare[len(x.spare)-1]
		x.spare = x.spare[:len(x.spare)-1]
		x.all[s.extra] = &extra{}
	default:
		if len(x.all) == 0 {
			x.all = append(x.all, nil)
		}
		s.extra = uint32(len(x.all))
		x.all = append(x.all, &extra{})
	}
	return x.all[s.extra]
}

// trimExtra takes an empty extra back.
func (m *Members) trimExtra(s *seating) {
	if s.extra != 0 && s.count <= inlineSeats && !s.behind {
		m.dropExtra(s)
	}
}

func (m *Members) dropExtra(s *seating) {
	m.extras.all[s.extra] = nil
	m.extras.spare = append(m.extras.spare, s.extra)
	s.extra = 0
}
