package server

import (
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/valyala/bytebufferpool"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
)

// encoder makes the frames of protocol version 1. A topics.Format is a shape.
type encoder struct {
	deflater *conn.Deflater          // nil: nobody can have negotiated compression
	least    int                     // bytes of payload from which on it is used
	exempt   func(topic string) bool // … but not for this topic
}

func newEncoder(cfg *config.Config) (*encoder, error) {
	e := &encoder{least: int(cfg.CompressionMinSize)}
	if cfg.Compression != config.On {
		return e, nil
	}
	exempt := make(map[string]bool, len(cfg.Namespaces))
	for name, ns := range cfg.Namespaces {
		exempt[name] = ns.Compression == config.Off
	}
	byDefault := cfg.Default.Compression == config.Off
	e.exempt = func(topic string) bool {
		if is, named := exempt[topics.Namespace(topic)]; named {
			return is
		}
		return byDefault
	}
	var err error
	e.deflater, err = conn.NewDeflater(cfg.CompressionLevel)
	return e, err
}

// compresses reports whether a message is compressed for who negotiated it.
func (e *encoder) compresses(m *topics.Message) bool {
	return e.deflater != nil && len(m.Data) >= e.least && !e.exempt(m.Topic)
}

// Like implements topics.Encoder.
func (e *encoder) Like(f topics.Format, m *topics.Message) topics.Format {
	if plain := shape(f).plain(); plain != shape(f) && !e.compresses(m) {
		return topics.Format(plain)
	}
	return f
}

// Message implements topics.Encoder. Compressing is for the loop that asks, and
// not for another goroutine: a message is compressed once for all, in a time in
// which it could be sent to a few clients.
func (e *encoder) Message(f topics.Format, m *topics.Message) []byte {
	switch shape(f) {
	case eventsJSON:
		return wire.AppendMessageEvent(nil, m.Topic, m.Cursor.String(), m.Time, m.Data)
	case eventsRaw:
		return wire.AppendRawEvent(nil, m.Topic, m.Cursor.String(), m.Data)
	case polled:
		return append(wire.AppendMessage(nil, m.Topic, m.Cursor.String(), m.Time, m.Data), ',')
	}
	frame := conn.AppendFrame
	if s := shape(f); s != s.plain() && e.compresses(m) {
		frame = e.deflater.AppendFrame
	}
	if !shape(f).tells() {
		op := ws.OpBinary
		if utf8.Valid(m.Data) {
			op = ws.OpText
		}
		return frame(nil, op, m.Data)
	}
	b := bytebufferpool.Get()
	defer bytebufferpool.Put(b)
	b.B = wire.AppendMessage(b.B, m.Topic, m.Cursor.String(), m.Time, m.Data)
	return frame(nil, ws.OpText, b.B)
}

var gapReasons = [topics.NumLossReasons]wire.GapReason{
	topics.LossSlow:      wire.GapSlow,
	topics.LossUpstream:  wire.GapUpstream,
	topics.LossExpired:   wire.GapExpired,
	topics.LossRestarted: wire.GapRestarted,
}

func (*encoder) Gap(f topics.Format, pattern string, why topics.LossReason, from, to topics.Cursor) []byte {
	if !shape(f).tells() {
		return nil // a raw client has no envelope in which it could be told
	}
	return appendTold(nil, shape(f), wire.AppendGap(nil, pattern, from.String(), to.String(), gapReasons[why]))
}

func (*encoder) Skipped(f topics.Format, topic string, count int) []byte {
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
