package topics

// Message is one publication as it came from the bus.
type Message struct {
	Topic string // without the subject prefix
	Data  []byte // the payload as published; immutable from here on
	Time  int64  // when the bus took it, in ms since the epoch; where the bus does not say, when it arrived here
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
