package server

import "github.com/pushd/pushd/internal/wire"

// shape is how messages are put on the wire of a connection: what topics calls
// a Format. A message is encoded once for each shape in use.
type shape uint8

const (
	socketJSON shape = iota // WebSocket, format json
	socketRaw               // WebSocket, format raw
)

// shapeOfSocket is the shape of a WebSocket.
func shapeOfSocket(f wire.Format) shape {
	if f == wire.Raw {
		return socketRaw
	}
	return socketJSON
}

// format is how the payload is laid out.
func (s shape) format() wire.Format {
	if s == socketRaw {
		return wire.Raw
	}
	return wire.JSON
}

// tells reports whether there is an envelope in which a client can be told of
// more than payloads: what became of its subscription, or that messages are missing.
func (s shape) tells() bool { return s.format() == wire.JSON }
