package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// An answer is made at the end of a turn: what came in that turn goes with it.
// Members are asked then where each subscription stands, also in the middle of a
// fan-out, and what an answer has no room for is behind that place.

// maxPolled bounds the messages of one answer, one message at least. The rest
// comes with the next.
const maxPolled = 64 << 10

// pollPatience is how long after its time a poll waits for what is on its way to
// it: for a subscription to stand, or for history that is being read.
const pollPatience = 2 * time.Second

// take gathers what a poll is sent. Frames that many share are not copied where an
// answer has no others, and room for them is reserved when it is made, or has to be
// kept: so a message for very many polls needs room for those alone that do not read.
func (sh *shard) take(p *poll, frames []byte, shared bool) topics.Outcome {
	switch {
	case p == nil: // it has been answered
		return topics.Gone
	case p.full || p.refused != nil:
		return topics.Blocked
	case int32(sh.loop.Now()-p.opens) < 0:
		p.blocked = true
		return topics.Blocked
	case len(p.frames) > 0 && len(p.frames)+len(frames) > maxPolled:
		p.full = true
		sh.lookAt(p)
		return topics.Blocked
	case len(p.frames) == 0 && shared && sh.server.answering.Room(len(frames)): // mayAnswer reserves what is kept
		p.frames = frames[:len(frames):len(frames)]
	case !sh.reserve(p, len(frames)):
		sh.putOff(p)
		return topics.Blocked
	default:
		p.frames = append(p.frames, frames...)
	}
	sh.lookAt(p)
	return topics.Sent
}

// reserve reports whether there is room for n bytes more of a poll's answer
// (--poll-memory). What is small is never refused.
func (sh *shard) reserve(p *poll, n int) bool {
	more := len(p.frames) + n - p.reserved
	if len(p.frames)+n <= conn.SmallAnswer {
		return true
	}
	if !sh.server.answering.Reserve(more) {
		return false
	}
	p.reserved += more
	return true
}

// reserveShared is reserve for what a poll has without a copy.
func (sh *shard) reserveShared(p *poll) bool { return p.reserved > 0 || sh.reserve(p, 0) }

// putOff is for a poll that there is no room for: it is answered with what it has,
// or waits for room as it does for messages, which costs nothing.
func (sh *shard) putOff(p *poll) {
	now := sh.loop.Now()
	if len(p.frames) > 0 || int32(now-p.until) >= int32(sh.ticks(pollPatience)) {
		p.full = true
		sh.lookAt(p)
		return
	}
	p.opens, p.blocked = now+1, true
	sh.lookLater(p, p.opens)
}

// tellPoll puts an object into a poll's answer.
func (sh *shard) tellPoll(p *poll, json []byte) {
	sh.json = json
	p.frames = append(append(p.frames, json...), ',')
	sh.lookAt(p)
}

// refusePoll has a poll answered with a refusal, at the end of the turn.
func (sh *shard) refusePoll(p *poll, refused *conn.Refusal) {
	p.refused = refused
	sh.lookAt(p)
}

// hurryPoll has a poll answered with what is there, at the end of the turn. The
// connection ends with it.
func (sh *shard) hurryPoll(p *poll) {
	p.hurried, p.keep = true, false
	sh.lookAt(p)
}

// endPoll ends a poll for a reason, which stands at the end of its answer.
func (sh *shard) endPoll(p *poll, why conn.Reason) {
	p.closed = why
	sh.hurryPoll(p)
}

// lookAt has a poll looked at in this turn, or the next.
func (sh *shard) lookAt(p *poll) {
	if !p.due {
		p.due = true
		sh.polls.due = append(sh.polls.due, p)
	}
}

// lookLater has a poll looked at when a tick has come.
func (sh *shard) lookLater(p *poll, tick uint32) {
	sh.polls.later[tick] = append(sh.polls.later[tick], p.id)
}

// tickPolls looks at the polls whose time has come.
func (sh *shard) tickPolls(now uint32) {
	for all := &sh.polls; len(all.later) > 0 && all.tick != now; {
		all.tick++
		ids := all.later[all.tick]
		delete(all.later, all.tick)
		for _, id := range ids {
			p := sh.poll(id)
			if p == nil {
				continue
			}
			if p.blocked && int32(now-p.opens) >= 0 {
				p.blocked = false
				sh.members.Drained(id.Slot())
			}
			sh.lookAt(p)
		}
	}
	sh.polls.tick = now
}

// answerPolls answers those that are due. To be called when the turn's messages
// have been sent.
func (sh *shard) answerPolls() {
	all := &sh.polls
	if len(all.due) == 0 {
		return
	}
	due := all.due
	all.due = all.spare[:0]
	for _, p := range due {
		if p.due = false; sh.poll(p.id) == p {
			sh.mayAnswer(p)
		}
	}
	clear(due)
	if all.spare = due[:0]; cap(due) > keepPolls {
		all.spare = nil
	}
}

// keepPolls bounds the room for polls that is kept between turns.
const keepPolls = 1 << 12

// mayAnswer answers a poll unless there is something to wait for.
func (sh *shard) mayAnswer(p *poll) {
	now, slot := sh.loop.Now(), p.id.Slot()
	late := int32(now - p.until)
	patient := late < int32(sh.ticks(pollPatience))
	switch {
	case p.refused != nil, p.hurried:
	case int32(now-p.opens) < 0:
		return // lookLater has been called
	case p.lacking > 0 && (late < 0 || patient) && sh.mayKeep(p):
		if late >= 0 || len(p.frames) > 0 {
			sh.lookLater(p, now+1)
		}
		return
	case p.full:
	case len(p.frames) > 0:
		if sh.members.GoesOn(slot) {
			sh.lookAt(p) // there is more, in the next turn
			return
		}
	case late < 0:
		return
	case sh.members.Behind(slot) > 0 && patient:
		sh.lookLater(p, now+1)
		return
	}
	if p.refused == nil && !sh.reserveShared(p) {
		p.full = true
		if late < 0 {
			p.until, patient = now, true
		}
		if patient && !p.hurried {
			sh.lookLater(p, now+1)
			return
		}
		p.refused = refusal(0, errNoRoom)
	}
	sh.answer(p)
}

// mayKeep reports whether a poll may keep what it has for longer than a turn: not
// where others need the room.
func (sh *shard) mayKeep(p *poll) bool {
	return len(p.frames) <= conn.SmallAnswer || sh.reserveShared(p) && !sh.server.answering.Tight()
}

// answer ends a poll. Who has the answer may ask again at once, by whatever shard:
// so what counts its connections is told before it leaves.
func (sh *shard) answer(p *poll) {
	sh.signOut(p.id.Slot())
	result := pollEmpty
	if p.refused != nil {
		result = pollRefused
		sh.forgetPoll(p.id)
		p.refused.Header = corsHeader(p.origin)
		sh.table.Refuse(p.id, p.refused)
	} else {
		cursor := sh.placesOf(p) // may bring more frames
		if len(p.frames) > 0 {
			result = pollMessages
		}
		sh.advisePoll(p)
		if p.closed != conn.ReasonNone {
			sh.tellPoll(p, wire.AppendClose(sh.json[:0], wire.CloseCode(p.closed.Code()), p.closed.String()))
		}
		sh.forgetPoll(p.id)
		sh.polls.body = wire.AppendPolled(sh.polls.body[:0], p.frames, cursor)
		sh.polls.bytes = append(appendPollHead(sh.polls.bytes[:0], p, len(sh.polls.body)), sh.polls.body...)
		if p.keep {
			sh.server.draining.answered.Store(time.Now().UnixMilli())
		}
		sh.table.Answer(p.id, sh.polls.bytes, p.keep)
		if cap(sh.polls.bytes) > maxPolled {
			sh.polls.body, sh.polls.bytes = nil, nil
		}
	}
	sh.server.metrics.polls.WithLabelValues(result).Inc()
}

// What becomes of polls, as metric labels.
const (
	pollMessages = "messages"
	pollEmpty    = "empty"
	pollRefused  = "refused"
)

// placesOf is the cursor of a poll's answer. A subscription that does not stand yet
// is where the client says.
func (sh *shard) placesOf(p *poll) []byte {
	cursor := sh.polls.place[:0]
	for i, topic := range p.topics {
		cursor = wire.AppendPlace(cursor, i, "")
		if at, ok := sh.members.Position(p.id.Slot(), topic); ok {
			cursor = at.Append(cursor)
		} else {
			cursor = append(cursor, p.places[i]...)
		}
	}
	sh.polls.place = cursor
	return cursor
}

// appendPollHead appends the head of an answer.
func appendPollHead(dst []byte, p *poll, length int) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nDate: "...)
	dst = time.Now().UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(length), 10)
	dst = append(dst, "\r\nConnection: "...)
	if p.keep {
		dst = append(dst, "keep-alive\r\n"...) // a client of HTTP/1.0 has asked for it, and is to know
	} else {
		dst = append(dst, "close\r\n"...)
	}
	return append(append(dst, corsHeader(p.origin)...), "\r\n"...)
}

// pollsEnd ends all polls of a shard that is about to close.
func (sh *shard) pollsEnd(why conn.Reason) {
	for _, p := range sh.polls.of {
		sh.endPoll(p, why)
	}
	sh.answerPolls()
}

// disconnectPoll ends the poll that a connection has, and reports whether it has one.
func (sh *shard) disconnectPoll(id poller.Token, why conn.Reason) bool {
	p := sh.poll(id)
	if p == nil {
		return false
	}
	sh.endPoll(p, why)
	return true
}
