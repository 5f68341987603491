package swarm

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// templates is what clients say, with places for a topic and a number.
type templates struct {
	plan                          *control.Plan
	subscribed, unsubscribed, gap []byte
	cursor, epoch, recovered      []byte
}

func newTemplates(plan *control.Plan) templates {
	return templates{
		plan, []byte(plan.SubscribedMark), []byte(plan.UnsubscribedMark), []byte(plan.GapMark),
		[]byte(plan.CursorMark), []byte(plan.EpochMark), []byte(plan.RecoveredMark),
	}
}

// request appends the HTTP request of a client whose first topic this is.
func (t templates) request(b []byte, topic uint32) []byte {
	return append(b, strings.ReplaceAll(t.plan.Request, "{topic}", t.plan.Topics[topic])...)
}

func (t templates) subscribe(topic uint32, id int) []byte {
	return t.fill(t.plan.Subscribe, topic, id)
}

func (t templates) unsubscribe(topic uint32, id int) []byte {
	return t.fill(t.plan.Unsubscribe, topic, id)
}

func (t templates) fill(template string, topic uint32, id int) []byte {
	b := bytes.ReplaceAll([]byte(template), []byte("{topic}"), []byte(t.plan.Topics[topic]))
	return bytes.ReplaceAll(b, []byte("{id}"), strconv.AppendInt(nil, int64(id), 10))
}
