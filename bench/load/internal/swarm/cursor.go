package swarm

import "bytes"

// position is where a client is in its topic, in the words of the server.
type position struct{ cursor, epoch []byte }

// locate notes where a message, or an answer, puts its client. Of several cursors the
// last counts; of an epoch there is one, ahead of what may be a long history.
func (s *Swarm) locate(c *client, b []byte) {
	at := &s.positions[c.first]
	if n := bytes.LastIndex(b, s.text.cursor); n >= 0 {
		at.cursor = append(at.cursor[:0], value(b[n+len(s.text.cursor):])...)
	}
	if n := bytes.Index(b, s.text.epoch); n >= 0 && len(s.text.epoch) > 0 {
		at.epoch = append(at.epoch[:0], value(b[n+len(s.text.epoch):])...)
	}
}

// value is what b begins with: the rest of a JSON string, or a number.
func value(b []byte) []byte {
	if end := bytes.IndexAny(b, `",}]`); end >= 0 {
		return b[:end]
	}
	return b
}

// resumes says whether a client can go on from where it was.
func (s *Swarm) resumes(c *client) bool {
	return s.plan.Resume != "" && len(s.positions[c.first].cursor) > 0
}

// resume is the message that lets it do so.
func (t templates) resume(topic uint32, id int, from position) []byte {
	b := bytes.ReplaceAll(t.fill(t.plan.Resume, topic, id), []byte("{cursor}"), from.cursor)
	return bytes.ReplaceAll(b, []byte("{epoch}"), from.epoch)
}
