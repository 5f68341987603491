package server

import "github.com/pushd/pushd/internal/wire"

// shape is how messages are put on the wire of a connection: what topics calls
// a Format. A message is encoded once for each shape in use.
type shape uint8

const (
	socketJSON   shape = iota // WebSocket, format json
	socketRaw                 // WebSocket, format raw
	deflatedJSON              // WebSocket with permessage-deflate, format json
	deflatedRaw               // WebSocket with permessage-deflate, format raw
	eventsJSON                // Server-Sent Events, format json
	eventsRaw                 // Server-Sent Events, format raw
	polled                    // GET /poll: objects with a comma behind each
)

// shapeOfSocket is the shape of a WebSocket.
func shapeOfSocket(f wire.Format, deflate bool) shape {
	switch {
	case deflate && f == wire.Raw:
		return deflatedRaw
	case deflate:
		return deflatedJSON
	case f == wire.Raw:
		return socketRaw
	}
	return socketJSON
}

// shapeOfEvents is the shape of a stream of Server-Sent Events.
func shapeOfEvents(f wire.Format) shape {
	if f == wire.Raw {
		return eventsRaw
	}
	return eventsJSON
}

// plain is the shape without compression.
func (s shape) plain() shape {
	switch s {
	case deflatedJSON:
		return socketJSON
	case deflatedRaw:
		return socketRaw
	}
	return s
}

// format is how the payload is laid out.
func (s shape) format() wire.Format {
	if s.plain() == socketRaw || s == eventsRaw {
		return wire.Raw
	}
	return wire.JSON
}

// tells reports whether there is an envelope in which a client can be told of
// more than payloads: what became of its subscription, or that messages are missing.
func (s shape) tells() bool { return s.plain() != socketRaw }

// talks reports whether a client may send commands, and is told of what is wrong
// with them. Of any other, all it wants stands in its request, which is refused.
func (s shape) talks() bool { return s.transport() == overSocket && s.tells() }

// transport is what a connection is to a person: the word of GET /connections, and
// a metric label.
type transport uint8

const (
	overSocket transport = iota
	overEvents
	overPolls
	numTransports
)

func (t transport) String() string { return [...]string{"websocket", "sse", "poll"}[t] }

func (s shape) transport() transport {
	switch s {
	case eventsJSON, eventsRaw:
		return overEvents
	case polled:
		return overPolls
	}
	return overSocket
}
