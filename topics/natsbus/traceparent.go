package natsbus

import "github.com/nats-io/nats.go"

// W3C Trace Context, 2.2.1: the name of the header, in lower case. Names in NATS
// are compared as they are written, and some clients write them as in HTTP.
const (
	traceparentHeader = "traceparent"
	traceparentInHTTP = "Traceparent"
)

// traceparentRoom is more than the headers of a message take with a
// traceparent, beside its Nats-Msg-Id.
const traceparentRoom = 256

// traceparentOf returns what the publisher said; "": nothing.
func traceparentOf(m *nats.Msg) string {
	if m.Header == nil {
		return ""
	}
	if s := header(m, traceparentHeader); s != "" {
		return s
	}
	return header(m, traceparentInHTTP)
}

// addTraceparent has a message carry its publication's. Headers count as
// payload: nothing is refused for the sake of a trace.
func (p *publisher) addTraceparent(msg *nats.Msg, m Publication) {
	if int64(len(m.Data)+len(m.ID)+traceparentRoom) > p.link.state().maxPayload || !p.link.nc.HeadersSupported() {
		return
	}
	if msg.Header == nil {
		msg.Header = make(nats.Header, 1)
	}
	msg.Header[traceparentHeader] = []string{m.Traceparent}
}
