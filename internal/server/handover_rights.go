package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// adoptSubscriptions goes on with what a client may be subscribed to as this
// process is configured. Of the rest it gets nothing, and is told when it can be.
// With ask, the authorization service may answer otherwise than before: what is its
// to decide goes on when it has, from where it stood.
func (sh *shard) adoptSubscriptions(id poller.Token, c *handover.Client, stays, ask bool) error {
	var ended []string
	var undecided []topics.Carried
	for i := range c.Subs {
		carried := &c.Subs[i]
		d := sh.decide(id, auth.Subscribe, carried.Pattern)
		var err error
		switch {
		case d == no:
			ended = append(ended, carried.Pattern)
		case d == perhaps && ask:
			if err = sh.server.hub.Linger(carried.Pattern); err == nil {
				undecided = append(undecided, *carried)
			}
		default:
			err = sh.members.Import(id.Slot(), topics.Format(c.Shape), carried)
		}
		switch {
		case errors.Is(err, topics.ErrNoWildcards):
			ended = append(ended, carried.Pattern)
		case err != nil:
			return err
		}
	}
	if stays && len(ended) == 0 && len(undecided) == 0 {
		return nil
	}
	sh.loop.Post(poller.Func(func() {
		if sh.table.IsOpen(id) && !stays {
			sh.missToken(id)
			return
		}
		for i := range undecided { // first: who is asked about may end up with something yet
			if sh.table.IsOpen(id) {
				sh.askAgain(id, &undecided[i])
			}
		}
		if sh.table.IsOpen(id) && len(ended) > 0 {
			sh.tellForbidden(id, ended...)
		}
	}))
	return nil
}

// askAgain has the authorization service say whether a client may go on with a
// subscription. Who gets no answer comes again.
func (sh *shard) askAgain(id poller.Token, c *topics.Carried) {
	if sh.wait(id, &step{action: auth.Subscribe, topic: c.Pattern, patient: true, do: func(refused *wire.Error) {
		switch {
		case refused == nil:
			sh.goOn(id, c)
		case refused.Code == wire.Unavailable:
			sh.table.Close(id, conn.ReasonDraining)
		default:
			sh.tellForbidden(id, c.Pattern)
		}
	}}) != nil {
		sh.table.Close(id, conn.ReasonDraining)
	}
}

// goOn is of a subscription that is allowed after the handover.
func (sh *shard) goOn(id poller.Token, c *topics.Carried) {
	slot := id.Slot()
	if slices.Contains(sh.members.Patterns(slot, nil), c.Pattern) {
		return // it has asked for it anew
	}
	switch err := sh.members.Import(slot, topics.Format(sh.client(slot).shape), c); {
	case errors.Is(err, topics.ErrNoWildcards):
		sh.tellForbidden(id, c.Pattern)
	case err != nil:
		sh.server.log.Warn("a subscription could not go on after the handover", "topic", c.Pattern, "err", err)
		sh.table.Close(id, conn.ReasonDraining)
	}
}

// unhurried is what is asked about very many clients at once and by none of them: a
// few questions at a time, so that there is room for those of commands.
type unhurried struct {
	underWay int
	waiting  []func() (asked bool)
}

// askPatiently puts a question when it is its turn.
func (sh *shard) askPatiently(put func() (asked bool)) {
	sh.patience.waiting = append(sh.patience.waiting, put)
	sh.putPatient()
}

// answeredPatient is of one that has its answer.
func (sh *shard) answeredPatient() {
	sh.patience.underWay--
	sh.putPatient()
}

func (sh *shard) putPatient() {
	p := &sh.patience
	most := max(1, questionWorkers/len(sh.server.shards))
	for p.underWay < most && len(p.waiting) > 0 {
		put := p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		if put() {
			p.underWay++
		}
	}
}

// accessOf says what the configuration lets whom subscribe to, apart from tokens:
// whether it is as in the process before is all that is asked of it.
func accessOf(cfg *config.Config) string {
	if !cfg.Authenticates() {
		return "open"
	}
	others := cfg.Default.Public.MaySubscribe()
	var except []string // namespaces that differ from the others
	for name, ns := range cfg.Namespaces {
		if ns.Public.MaySubscribe() != others {
			except = append(except, name)
		}
	}
	slices.Sort(except)
	return fmt.Sprintf("authorize %q, public %t except %s", cfg.Authorize, others, strings.Join(except, ","))
}
