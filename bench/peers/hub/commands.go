package hub

import "bytes"

// Obey carries out what a client says in a text message, and returns what to answer; nil where it understands nothing. A
// publication may overtake the answer.
//
//	{"type":"subscribe","topic":"X"}      {"type":"subscribed","topic":"X"}
//	{"type":"unsubscribe","topic":"X"}    {"type":"unsubscribed","topic":"X"}
//
// It knows JSON as it is spelled here and no other: encoding/json needs so much stack that a goroutine which reads a connection
// may keep twice what it had, and that would be put down to the library.
func (t *Topics[C]) Obey(m *Member[C], text []byte) (answer []byte) {
	topic, ok := field(text, `"topic":"`)
	if !ok {
		return nil
	}
	said, _ := field(text, `"type":"`)
	switch string(said) {
	case "subscribe":
		t.Subscribe(m, string(topic))
	case "unsubscribe":
		t.Unsubscribe(m, string(topic))
	default:
		return nil
	}
	answer = append(answer, `{"type":"`...)
	answer = append(answer, said...)
	answer = append(answer, `d","topic":"`...)
	answer = append(answer, topic...)
	return append(answer, `"}`...)
}

// field returns what stands between name and the next quotation mark.
func field(text []byte, name string) (value []byte, ok bool) {
	_, after, named := bytes.Cut(text, []byte(name))
	value, _, ended := bytes.Cut(after, []byte(`"`))
	return value, named && ended
}
