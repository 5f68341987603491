package natsbus

import "github.com/nats-io/nats.go/jetstream"

const (
	// maxFull is how many topics that have all the messages their bound allows
	// are looked at one by one.
	maxFull = 100

	// maxDeleted is how many numbers of deleted messages are asked for.
	maxDeleted = 10_000
)

// intact asks the leader alone: a replica that lags would vouch for what is gone.
//
// Bounds of age and bytes drop the oldest message of all. So where the stream's
// first is not above after+1, only a topic's own bound, or a hand, has taken
// any that came later.
func (a *asker) intact(h *history, pattern string, after uint64) (bool, error) {
	reply, err := a.info(h, infoRequest{})
	if err != nil {
		return false, err
	}
	state := reply.State
	switch {
	case after >= state.LastSeq:
		return after == state.LastSeq, nil // beyond: another stream's number
	case state.Msgs == 0 || state.FirstSeq > after+1:
		return false, nil
	case dense(state):
		return true, nil
	case h.perTopic.Load() > 0:
		// What publishers let expire, or roll up, leaves a topic below its bound too.
		if after < h.raised.Load() || reply.Config.AllowMsgTTL || reply.Config.AllowRollup {
			return false, nil
		}
		return a.topicsIntact(h, pattern, after)
	case state.LastSeq-state.FirstSeq+1-state.Msgs > maxDeleted:
		return false, nil
	}
	if reply, err = a.info(h, infoRequest{DeletedDetails: true}); err != nil {
		return false, err
	}
	for _, seq := range reply.State.Deleted {
		if seq > after {
			return false, nil
		}
	}
	return reply.State.FirstSeq <= after+1, nil
}

// dense reports whether a stream has a message of each number.
func dense(s jetstream.StreamState) bool { return s.LastSeq-s.FirstSeq+1 == s.Msgs }

// next asks the leader, which does not lag.
func (a *asker) next(h *history, pattern string, from uint64) (uint64, error) {
	filter := wildcardRest
	if pattern != "" {
		filter = h.subject(pattern)
	}
	first, err := a.call("STREAM.MSG.GET", h.config.Name, getRequest{Seq: max(from, 1), Next: filter})
	switch {
	case isAPIError(err, codeNoMessage):
		return 0, nil
	case err != nil:
		return 0, err
	case first.Message == nil:
		return 0, nil
	}
	return first.Message.Seq, nil
}

// topicsIntact looks at the topics one by one. A topic below its bound has lost
// nothing to it. Of one at its bound all that was dropped came before the first
// that is kept.
func (a *asker) topicsIntact(h *history, pattern string, after uint64) (bool, error) {
	filter := wildcardRest
	if pattern != "" {
		filter = h.subject(pattern)
	}
	reply, err := a.info(h, infoRequest{SubjectsFilter: filter})
	if err != nil {
		return false, err
	}
	if reply.Total > len(reply.State.Subjects) || reply.State.FirstSeq > after+1 {
		return false, nil
	}
	var full []string
	for subject, kept := range reply.State.Subjects {
		if kept >= uint64(h.perTopic.Load()) {
			full = append(full, subject)
		}
	}
	if len(full) > maxFull {
		return false, nil
	}
	for _, subject := range full {
		first, err := a.call("STREAM.MSG.GET", h.config.Name, getRequest{Seq: 1, Next: subject})
		if isAPIError(err, codeNoMessage) {
			return false, nil // gone since
		}
		if err != nil {
			return false, err
		}
		if first.Message == nil || first.Message.Seq > after+1 {
			return false, nil
		}
	}
	return true, nil
}
