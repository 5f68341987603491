package pushd

import (
	"encoding/base64"
	"encoding/json"
	"time"
)

// Message is one that was published.
type Message struct {
	Topic   string    // that it was published to
	Cursor  string    // its place, from which to resume; "" where the namespace keeps no history
	Time    time.Time // when NATS took it, or, in a namespace without history, when it came to the server
	Data    json.RawMessage
	Skipped int // older values of the topic that it stands for too, in mode latest

	raw    []byte
	base64 bool // Data is a string of it
}

// Raw is the JSON object as the server sent it, of which Data is a part.
func (m *Message) Raw() []byte { return m.raw }

// Decode stores Data in what v points to, as json.Unmarshal does.
func (m *Message) Decode(v any) error { return json.Unmarshal(m.Data, v) }

// Bytes returns what was published, as far as JSON can tell: a payload that was
// a JSON string comes without its quotes, like any other text.
func (m *Message) Bytes() ([]byte, error) {
	if len(m.Data) == 0 || m.Data[0] != '"' {
		return m.Data, nil
	}
	var text string
	if err := json.Unmarshal(m.Data, &text); err != nil {
		return nil, err
	}
	if m.base64 {
		return base64.StdEncoding.DecodeString(text)
	}
	return []byte(text), nil
}

// envelope is what the server sends, of whatever type: see docs/PROTOCOL.md.
type envelope struct {
	Type     string          `json:"type"`
	ID       json.RawMessage `json:"id"`
	Topic    string          `json:"topic"`
	Time     int64           `json:"time"` // in ms since the epoch
	Data     json.RawMessage `json:"data"`
	Encoding string          `json:"encoding"`
	Cursor   string          `json:"cursor"` // of messages, subscribed and published

	Recovered   *bool      `json:"recovered"`   // subscribed
	Client      string     `json:"client"`      // welcome
	Heartbeat   int64      `json:"heartbeat"`   // welcome: in ms
	MaxMessage  int64      `json:"max_message"` // welcome: in bytes
	From        string     `json:"from"`        // gap
	To          string     `json:"to"`          // gap
	Reason      string     `json:"reason"`      // subscribed, gap, unsubscribed, reconnect
	Count       int        `json:"count"`       // skipped
	Connections int        `json:"connections"` // presence
	After       int64      `json:"after"`       // reconnect, token_expires: in ms
	Code        reasonCode `json:"code"`        // error: a word; close: a number
	Message     string     `json:"message"`     // error
	RetryAfter  int64      `json:"retry_after"` // error: in ms
}

// reasonCode is the code of an error, or of a close.
type reasonCode struct {
	word   Code
	number int
}

func (c *reasonCode) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		return json.Unmarshal(text, &c.word)
	}
	return json.Unmarshal(text, &c.number)
}

// message returns what a "message" holds; raw is the text that it was read from.
func (e *envelope) message(raw []byte) Message {
	return Message{
		Topic: e.Topic, Cursor: e.Cursor, Time: time.UnixMilli(e.Time), Data: e.Data,
		raw: raw, base64: e.Encoding == "base64",
	}
}

func (e *envelope) refusal() *Error {
	return &Error{Code: e.Code.word, Message: e.Message, RetryAfter: milliseconds(e.RetryAfter)}
}

// closing is the end that a server tells where there are no close frames.
func (e *envelope) closing() *CloseError { return &CloseError{Code: e.Code.number, Reason: e.Reason} }

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
