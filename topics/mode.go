package topics

import "time"

// Mode is what a subscriber gets that does not keep up, from every message to
// the newest alone.
type Mode uint8

const (
	ModeDefault Mode = iota // as the namespace says
	ModeAll                 // every message, from ring, then history
	ModeLive                // what the ring still holds, else a gap
	ModeLatest              // the newest value of each topic
)

// Settings is how a namespace is served.
type Settings struct {
	ByTopic bool // interest: topic instead of namespace
	History bool // the bus keeps its messages
	Mode    Mode // of a subscriber who does not choose; ModeDefault is ModeLive

	// MaxRate is at most how many updates a second of each topic a subscriber
	// of ModeLatest gets; 0: as many as it asks for.
	MaxRate float64

	// RingMessages is how many of the newest messages of each of its feeds are
	// kept, where it has no history; 0: HubConfig.RingMessages.
	RingMessages int

	// BatchDelay is how long deliveries of its feeds are gathered, so that they
	// leave together; 0: not at all. Hub.Close is needed where there are delays.
	BatchDelay time.Duration
}

// way is how the members of a group are served.
type way struct {
	mode   Mode
	window time.Duration // between flushes of what is held back; 0: nothing is
}

// maxWindow keeps what is held back from being held for ever.
const maxWindow = time.Hour

// way checks what a subscriber wants against what its namespace allows.
func (m *Members) way(pattern string, want Want) (w way, err error) {
	settings := m.hub.cfg.Settings(Namespace(pattern))
	most := settings.Mode
	if most == ModeDefault {
		most = ModeLive
	}
	w.mode = most
	if want.Mode != ModeDefault {
		w.mode = want.Mode
	}
	if w.mode < most {
		return w, ErrMode
	}
	if want.MaxRate > 0 && w.mode != ModeLatest {
		return w, ErrRate
	}
	rate := want.MaxRate
	if settings.MaxRate > 0 && w.mode == ModeLatest && (rate == 0 || rate > settings.MaxRate) {
		rate = settings.MaxRate
	}
	if rate > 0 {
		w.window = time.Duration(min(float64(time.Second)/rate, float64(maxWindow)))
	}
	return w, nil
}

// serves reports whether a group's members are served in a way.
func (g *group) serves(w way) bool {
	window := time.Duration(0)
	if g.pace != nil {
		window = g.pace.window
	}
	return g.mode == w.mode && window == w.window
}

// hears reports whether a mark of loss concerns a group. Where there is
// history, those who want the newest alone have it.
func (g *group) hears(e *entry) bool {
	return g.mode != ModeLatest || g.view.feed.kept == nil || e.why == LossRestarted
}
