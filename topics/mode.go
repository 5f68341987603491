package topics

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
}
