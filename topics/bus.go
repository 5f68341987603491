package topics

// Message is one publication as it came from the bus.
type Message struct {
	Topic string // without the subject prefix
	Data  []byte // the payload as published; immutable from here on
	Time  int64  // when the bus took it, in ms since the epoch; where the bus does not say, when it arrived here
	Trail *Trail // nil: nobody follows it

	// Of a namespace that keeps history.
	Cursor Cursor
	Prev   uint64 // of a live message: number of the one before it of the same topic that was kept when it came; 0: none
}

// Interest names what a Hub wants of the bus: everything of one namespace
// (the topic that is the namespace's bare name included), or one topic.
type Interest struct {
	Name      string // a namespace or a topic
	Namespace bool   // Name is a namespace, and all its topics are meant
}

// Bus is what a Hub needs of the message system behind it.
type Bus interface {
	// Subscribe adds an interest. It never blocks. ready is called once, from
	// another goroutine and never from within Subscribe, as soon as a message
	// published from now on would arrive, or with the reason why the bus cannot
	// say so now (it is away); the interest stands in that case too and is taken
	// up when the bus is back. A bus that is closed already does not answer.
	Subscribe(in Interest, ready func(error))

	// Unsubscribe ends an interest. It never blocks. Messages that were under
	// way may still arrive.
	Unsubscribe(in Interest)
}

// Sink takes what a bus brings. Its methods may be called from any goroutine
// and do not block on subscribers.
type Sink interface {
	// Deliver hands over messages in the order in which the bus took them.
	// The slice is the caller's again when Deliver returns; what it refers to is not.
	Deliver(batch []Message)

	// Lost says that messages of an interest may have been lost on the way here.
	Lost(in Interest)

	// LostAll says the same of every interest: the bus was away and came back.
	LostAll()
}

// History is what a bus has kept. Its methods never block; done is called once,
// from another goroutine and never from within. Of a bus that is closed, or
// away for longer than it is worth waiting, the error is what the bus says.
type History interface {
	// Stream says how a namespace's history stands.
	Stream(namespace string, done func(Stream, error))

	// Read reads messages, oldest first.
	Read(q Query, done func(Page, error))

	// Next says which is the first message of a pattern with that number or a
	// higher one, as the leader of the stream knows; 0: there is none.
	Next(namespace, pattern string, from uint64, done func(number uint64, err error))

	// Intact says whether every message of a pattern that came after a number
	// is still kept. A doubt is no.
	Intact(namespace, pattern string, after uint64, done func(bool, error))
}

// Stream is how a namespace's history stands. Numbers go up by one with each
// message of the namespace, whatever its topic.
type Stream struct {
	Epoch    uint32 // see Cursor
	First    uint64 // oldest that is kept; where nothing is, Last+1
	Last     uint64 // newest there ever was; 0: none
	Stamp    uint32 // of Last; 0: not known
	PerTopic int    // messages kept of each topic; 0: no limit, so that the oldest of all go first
	Replicas int    // that answer Read, and may lag behind each other; 0 is 1
	Whole    bool   // nothing between First and Last is missing but what PerTopic has dropped, as far as the bus can know
}

// Urgency orders reads that wait for the same stream.
type Urgency uint8

const (
	UrgentRepair Urgency = iota // of what everybody waits for
	UrgentResume                // of what a client waits for that came back
	UrgentAsked                 // of what somebody asked for
	UrgentSlow                  // of what a slow client will take
	NumUrgencies
)

func (u Urgency) String() string { return [...]string{"repair", "resume", "asked", "slow"}[u] }

// Query is what to read.
type Query struct {
	Namespace string
	Pattern   string   // only messages of topics that match; "": all
	From      uint64   // number of the first; 0 is 1
	Messages  int      // at most; 0 is 500
	Bytes     int      // of data and topics, about and at most, but one message at least; 0 is 256 KiB
	Newest    bool     // only the newest of each topic, in one page, without the limits above; of those with a number of From or more
	Topics    []string // of Newest: only of these, if there are any; Pattern does not count then
	Urgency   Urgency
}

// Page is what was read.
type Page struct {
	Messages []Message // in the order of their numbers; their Prev is not set
	Next     uint64    // From of the next page: everything below has been read
	End      bool      // there was nothing more, as far as the replica that answered knows
	LeftOut  []Cursor  // in their order: messages that are kept, and that the bus delivers to nobody
}
