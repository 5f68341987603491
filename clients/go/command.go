package pushd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// command is what a program asks for beside messages, as it goes over a WebSocket.
type command struct {
	Type     string `json:"type"` // publish, presence
	ID       int    `json:"id"`
	Topic    string `json:"topic"`
	Key      string `json:"idempotency_key,omitempty"`
	Encoding string `json:"encoding,omitempty"`

	data    []byte // JSON that is put behind the others: it goes as it is, byte for byte; nil: none
	payload []byte // as it is published
}

func newPublication(topic, key string, payload []byte) *command {
	c := &command{Type: "publish", Topic: topic, Key: key, data: payload, payload: payload}
	if !goesAsItIs(payload) {
		c.Encoding = "base64"
		c.data = fmt.Appendf(nil, `"%s"`, base64.StdEncoding.EncodeToString(payload))
	}
	return c
}

// text is the command with a number.
func (c *command) text(id int) []byte {
	numbered := *c
	numbered.ID = id
	head, err := json.Marshal(numbered)
	if err != nil {
		panic(err) // it is a struct of strings
	}
	if c.data == nil {
		return head
	}
	text := append(head[:len(head)-1], `,"data":`...)
	return append(append(text, c.data...), '}')
}

// goesAsItIs reports whether data can stand in a command as JSON, and reach
// subscribers as the same bytes.
func goesAsItIs(data []byte) bool {
	const deepest = 512 // by the protocol; no data with fewer brackets is deeper
	return json.Valid(data) && utf8.Valid(data) && len(bytes.TrimSpace(data)) == len(data) &&
		bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) <= deepest
}
