package cluster

import "encoding/json"

// Version is that of [Piece]. It stays the same while fields are only added.
const Version = 1

// Kinds of pieces.
const (
	Changes = "changes" // topics whose counts are others than before
	State   = "state"   // all topics that have connections; in pieces, one right after the other
)

// Piece is a message of a node about how many connections its topics have. All
// pieces of a run of it are numbered from 1, so that who hears them knows what it missed.
type Piece struct {
	Version  int               `json:"v"`
	Node     string            `json:"node"`
	Started  int64             `json:"started"` // of this run of it: ms since 1970
	Sequence uint64            `json:"sequence"`
	Kind     string            `json:"kind"`
	First    bool              `json:"first,omitempty"`
	Last     bool              `json:"last,omitempty"`
	Topics   map[string]uint32 `json:"topics"` // 0: nobody any more
}

const (
	// stateEvery is after how many ticks of a second the state is told again.
	stateEvery = 30

	// stateRest is for how many ticks it is not, whoever asks.
	stateRest = 2

	// most is how many changes may wait for their turn. With more, the state is told.
	most = 200_000

	// frame is what a piece has beside its topics, at most.
	frame = 512
)

// Teller says how many connections a node's topics have: what has changed, at most
// one piece a second, and now and then all. One goroutine calls it.
type Teller struct {
	node     string
	started  int64
	sequence uint64
	waiting  map[string]uint32 // changes
	wanted   bool              // somebody lacks the state
	since    int               // ticks since it was told
	told     bool              // anything at all, ever
}

// NewTeller is of a run of a node, which began at that time, in ms since 1970.
func NewTeller(node string, started int64) *Teller {
	return &Teller{node: node, started: started, waiting: make(map[string]uint32), since: stateRest}
}

// Want has the state told soon.
func (t *Teller) Want() { t.wanted = true }

// Sequence is the number of the last piece.
func (t *Teller) Sequence() uint64 { return t.sequence }

// Changed notes how many connections a topic has now.
func (t *Teller) Changed(topic string, connections int) {
	if len(t.waiting) >= most {
		clear(t.waiting)
		t.wanted = true // it has what was waiting too
	}
	t.waiting[topic] = uint32(connections)
}

// Tick is called once a second, after the changes of it. It passes on the pieces
// that are to be published, as JSON, each of at most size bytes. all passes on the
// whole state.
func (t *Teller) Tick(size int, all func(yield func(topic string, connections int)), publish func([]byte)) {
	t.since++
	due := t.told && t.since >= stateEvery
	if (t.wanted || due) && t.since > stateRest {
		t.tellState(size, all, publish)
		return
	}
	if len(t.waiting) == 0 {
		return
	}
	p := Piece{Kind: Changes, Topics: make(map[string]uint32)}
	room := size - frame
	for topic, n := range t.waiting {
		if room -= weight(topic); room < 0 && len(p.Topics) > 0 {
			break // the rest is told the next time
		}
		p.Topics[topic] = n
		delete(t.waiting, topic)
	}
	t.tell(&p, publish)
}

func (t *Teller) tellState(size int, all func(func(string, int)), publish func([]byte)) {
	clear(t.waiting)
	p := Piece{Kind: State, First: true, Topics: make(map[string]uint32)}
	room := size - frame
	all(func(topic string, connections int) {
		if room -= weight(topic); room < 0 && len(p.Topics) > 0 {
			t.tell(&p, publish)
			p = Piece{Kind: State, Topics: make(map[string]uint32)}
			room = size - frame - weight(topic)
		}
		p.Topics[topic] = uint32(connections)
	})
	p.Last = true
	t.tell(&p, publish)
	t.wanted, t.since = false, 0
}

// weight is how many bytes a topic takes in a piece, at most.
func weight(topic string) int {
	const count = 16 // with quotes, colon and comma
	n := len(topic) + count
	for _, c := range []byte(topic) {
		if c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			n += len(`\u003c`) - 1
		} else if c >= 0x80 {
			n += 5 // what is no UTF-8 is written as \ufffd
		}
	}
	return n
}

func (t *Teller) tell(p *Piece, publish func([]byte)) {
	t.sequence++
	t.told = true
	p.Version, p.Node, p.Started, p.Sequence = Version, t.node, t.started, t.sequence
	data, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	publish(data)
}
