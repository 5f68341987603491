package server

import (
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/valyala/bytebufferpool"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
)

// encoder makes the frames of protocol version 1. A topics.Format is a shape.
type encoder struct{}

func (encoder) Message(f topics.Format, m *topics.Message) []byte {
	switch shape(f) {
	case eventsJSON:
		return wire.AppendMessageEvent(nil, m.Topic, m.Cursor.String(), m.Time, m.Data)
	case eventsRaw:
		return wire.AppendRawEvent(nil, m.Topic, m.Cursor.String(), m.Data)
	case polled:
		return append(wire.AppendMessage(nil, m.Topic, m.Cursor.String(), m.Time, m.Data), ',')
	case socketRaw:
		op := ws.OpBinary
		if utf8.Valid(m.Data) {
			op = ws.OpText
		}
		return conn.AppendFrame(nil, op, m.Data)
	}
	b := bytebufferpool.Get()
	defer bytebufferpool.Put(b)
	b.B = wire.AppendMessage(b.B, m.Topic, m.Cursor.String(), m.Time, m.Data)
	return conn.AppendFrame(nil, ws.OpText, b.B)
}

var gapReasons = [topics.NumLossReasons]wire.GapReason{
	topics.LossSlow:      wire.GapSlow,
	topics.LossUpstream:  wire.GapUpstream,
	topics.LossExpired:   wire.GapExpired,
	topics.LossRestarted: wire.GapRestarted,
}

func (encoder) Gap(f topics.Format, pattern string, why topics.LossReason, from, to topics.Cursor) []byte {
	if !shape(f).tells() {
		return nil // a raw client has no envelope in which it could be told
	}
	return appendTold(nil, shape(f), wire.AppendGap(nil, pattern, from.String(), to.String(), gapReasons[why]))
}

func (encoder) Skipped(f topics.Format, topic string, count int) []byte {
	if !shape(f).tells() {
		return nil // as above
	}
	return appendTold(nil, shape(f), wire.AppendSkipped(nil, topic, count))
}

// appendTold appends a message that is no publication, as a connection that tells
// such has it.
func appendTold(dst []byte, s shape, json []byte) []byte {
	switch s.transport() {
	case overEvents:
		return wire.AppendEvent(dst, "", json)
	case overPolls:
		return append(append(dst, json...), ',')
	}
	return conn.AppendFrame(dst, ws.OpText, json)
}
