package swarm

import "bytes"

// position is where a client is in its topic, in the words of the server.
type position struct{ cursor, epoch []byte }

// locate notes where a message, or an answer, puts its client. Behind is the end of the last stamp,
// whose cursor counts: it stands behind its message, or else ahead of it. An answer with a
// history may end with another one. Of an epoch there is one, ahead of all that.
func (s *Swarm) locate(c *client, b []byte, behind int) {
	at := &s.positions[c.first]
	mark := s.text.cursor
	n := -1
	if behind > 0 {
		if n = bytes.Index(b[behind:], mark); n >= 0 {
			n += behind
		}
	}
	if n < 0 {
		n = bytes.LastIndex(b, mark)
	}
	if n >= 0 {
		at.cursor = append(at.cursor[:0], value(b[n+len(mark):])...)
	}
	if mark := s.text.epoch; len(mark) > 0 {
		if n := bytes.Index(b, mark); n >= 0 {
			at.epoch = append(at.epoch[:0], value(b[n+len(mark):])...)
		}
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
