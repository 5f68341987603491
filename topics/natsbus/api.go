package natsbus

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/topics"
)

// Error codes of JetStream that are told apart here.
const (
	codeNotEnabled        = 10076
	codeNotEnabledAccount = 10039
	codeStreamNotFound    = 10059
	codeTooLarge          = 10054
	codeNoMessage         = 10037
	codeInsufficient      = 10023
	codeIDInProcess       = 10158
)

// infoRequest is the body of STREAM.INFO.
type infoRequest struct {
	DeletedDetails bool   `json:"deleted_details,omitempty"`
	SubjectsFilter string `json:"subjects_filter,omitempty"`
	Offset         int    `json:"offset,omitempty"` // of subjects, which come 100,000 at a time
}

// apiReply is what the API answers, whatever was asked.
type apiReply struct {
	Error   *jetstream.APIError `json:"error"`
	Total   int                 `json:"total"` // subjects that match; the reply may hold fewer
	Message *struct {
		Seq uint64 `json:"seq"`
	} `json:"message"`
	jetstream.StreamInfo
}

// What a reply of the API weighs in bytes, about; one that lists topics or
// deleted messages may be large.
const (
	infoCost = 64 << 10
	listCost = maxOutstanding / 2
)

// call asks the API, whose errors are ErrAway or a *jetstream.APIError. The
// leader answers, of the stream or of all streams.
func (a *asker) call(method, stream string, body any) (*apiReply, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	counter, cost := &a.calls, infoCost
	if details, isInfo := body.(infoRequest); isInfo {
		counter = &a.infos
		if details != (infoRequest{}) {
			cost = listCost
		}
	}
	reply := new(apiReply)
	err = a.ask(&request{
		lane:    a.api,
		subject: "$JS.API." + method + "." + stream,
		body:    raw,
		urgency: topics.UrgentRepair, // few, and answered at once
		cost:    cost,
		counter: counter,
		take: func(m *nats.Msg) (bool, error) {
			if header(m, "Status") == "503" {
				return true, fmt.Errorf("%w: JetStream does not answer", ErrAway)
			}
			if err := json.Unmarshal(m.Data, reply); err != nil {
				return true, fmt.Errorf("%w: JetStream answers what cannot be read: %v", ErrAway, err)
			}
			return true, nil
		},
	})
	switch {
	case err != nil:
		return nil, err
	case reply.Error != nil:
		return nil, reply.Error
	}
	return reply, nil
}

// isAPIError reports whether err is JetStream's, with one of these codes.
func isAPIError(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	for _, code := range codes {
		if api.ErrorCode == code {
			return true
		}
	}
	return false
}

// info asks how a stream stands, and keeps what h must know of it.
func (a *asker) info(h *history, body infoRequest) (*apiReply, error) {
	reply, err := a.call("STREAM.INFO", h.config.Name, body)
	if err != nil {
		return nil, err
	}
	if !ofLeader(&reply.StreamInfo) {
		return nil, fmt.Errorf("%w: stream %s has no leader just now", ErrAway, h.config.Name)
	}
	h.note(&reply.StreamInfo)
	return reply, nil
}

// ofLeader reports whether information is the leader's. While none is elected,
// or a server has just come back, replicas answer too, and may not know yet of
// messages that were acknowledged. Nobody names himself among the others.
func ofLeader(info *jetstream.StreamInfo) bool {
	c := info.Cluster
	if c == nil || info.Config.Replicas <= 1 {
		return true
	}
	return c.Leader != "" && !slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == c.Leader })
}

// away makes of an error of JetStream one that callers of the Bus know.
func away(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return fmt.Errorf("%w: %s", ErrAway, api.Description)
	}
	return err
}
