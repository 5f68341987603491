package main

import (
	"encoding/json"
	"strconv"

	"github.com/pushd/pushd/topics"
)

// wants is how messages are asked for, beside their topics.
type wants struct {
	mode    string
	maxRate float64
}

// subscription is a topic or pattern, and how far it has come.
type subscription struct {
	topic  string
	cursor string // what it is resumed from; "": from now
	stands bool   // on this connection
}

// newSubscriptions takes a cursor for each topic, or none at all.
func newSubscriptions(patterns, cursors []string) []subscription {
	subs := make([]subscription, len(patterns))
	for i, topic := range patterns {
		subs[i].topic = topic
		if len(cursors) > 0 {
			subs[i].cursor = cursors[i]
		}
	}
	return subs
}

// subscribeRequest is the subscribe command of the protocol.
type subscribeRequest struct {
	Type    string   `json:"type"`
	ID      int      `json:"id"`
	Topic   string   `json:"topic,omitempty"`
	Topics  []string `json:"topics,omitempty"`
	Cursor  string   `json:"cursor,omitempty"`
	Mode    string   `json:"mode,omitempty"`
	MaxRate float64  `json:"max_rate,omitempty"`
}

// requests makes the commands of a connection, on which nothing stands yet: one
// for all topics, or one for each where some of them have a cursor. Their ids
// are numbers from 1.
func requests(subs []subscription, w wants) []subscribeRequest {
	all := subscribeRequest{Type: "subscribe", ID: 1, Mode: w.mode, MaxRate: w.maxRate}
	var each []subscribeRequest
	resumes := false
	for i := range subs {
		s := &subs[i]
		s.stands = false
		resumes = resumes || s.cursor != ""
		all.Topics = append(all.Topics, s.topic)
		one := all
		one.ID, one.Topic, one.Topics, one.Cursor = i+1, s.topic, nil, s.cursor
		each = append(each, one)
	}
	if resumes {
		return each
	}
	return []subscribeRequest{all}
}

// answersRequest reports whether a reply with this id is to one of requests.
func answersRequest(id json.RawMessage, subs []subscription) bool {
	n, err := strconv.Atoi(string(id))
	return err == nil && n >= 1 && n <= len(subs)
}

// stands notes that a subscription goes on from the cursor of its reply.
func (s *session) stands(m *message) {
	for i := range s.subs {
		if sub := &s.subs[i]; sub.topic == m.Topic {
			sub.stands, sub.cursor = true, m.Cursor
		}
	}
	if m.Recovered != nil && !*m.Recovered {
		s.notef("%s cannot go on where it stopped: messages were lost (%s)", m.Topic, m.Reason)
	}
}

// passed notes how far the subscriptions have come that a message is for. One
// that does not stand yet is not among them: the message came by another.
func (s *session) passed(m *message) {
	if m.Cursor == "" {
		return // nobody keeps it
	}
	for i := range s.subs {
		if sub := &s.subs[i]; sub.stands && topics.Match(sub.topic, m.Topic) {
			sub.cursor = m.Cursor
		}
	}
}
