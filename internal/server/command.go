package server

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/tracing"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// maxStrikes is how many bad commands in a row end a connection (1008): its
// program is broken, and to go on would only cost.
const maxStrikes = 64

// retryAfter is what clients are told to wait when NATS is away or a queue is full.
const retryAfter = 2 * time.Second

// Message implements conn.Handler: one command of a client.
func (sh *shard) Message(id poller.Token, op ws.OpCode, payload []byte) {
	c := sh.client(id.Slot())
	if !c.shape.talks() || op != ws.OpText {
		sh.table.Close(id, conn.ReasonUnsupportedData)
		return
	}
	err := sh.parser.Parse(payload, &sh.command)
	if sh.commandTooFast(id, c, &sh.command) {
		return
	}
	if err != nil {
		sh.replyError(id, sh.command.ID, err.Code, err.Message)
		if c.strikes++; c.strikes >= maxStrikes {
			sh.table.Close(id, conn.ReasonPolicy)
		}
		return
	}
	c.strikes = 0
	sh.server.metrics.commands[sh.command.Type].Inc()
	cmd := &sh.command
	if c.standing&mustAuthenticate != 0 && cmd.Type != wire.CommandAuth && cmd.Type != wire.CommandPing {
		sh.replyError(id, cmd.ID, errNoToken.Code, errNoToken.Message)
		return
	}
	switch cmd.Type {
	case wire.CommandSubscribe:
		sh.subscribeAll(id, cmd)
	case wire.CommandUnsubscribe:
		sh.unsubscribeAll(id, cmd)
	case wire.CommandPublish:
		sh.publish(id, cmd)
	case wire.CommandPresence:
		sh.presence(id, cmd)
	case wire.CommandPing:
		sh.reply(id, wire.AppendPong(sh.json[:0], cmd.ID))
	case wire.CommandAuth:
		sh.authCommand(id, cmd)
	}
}

func (sh *shard) subscribeAll(id poller.Token, cmd *wire.Command) {
	if most := sh.server.cfg.MaxSubscriptions; len(cmd.Topics) > most {
		refused := tooManyTopics(len(cmd.Topics), most)
		sh.replyError(id, cmd.ID, refused.Code, refused.Message)
		return
	}
	for _, topic := range cmd.Topics {
		if err := sh.subscribe(id, cmd.ID, topic, cmd); err != nil {
			sh.replyError(id, cmd.ID, err.Code, err.Message)
		}
	}
}

func tooManyTopics(n, most int) *wire.Error {
	return &wire.Error{Code: wire.TooManyTopics, Message: fmt.Sprintf("%d topics in one command; a connection may have %d (--max-subscriptions)", n, most)}
}

// unsubscribeAll confirms also what was no subscription: it is none now.
func (sh *shard) unsubscribeAll(id poller.Token, cmd *wire.Command) {
	if most := sh.server.cfg.MaxSubscriptions; len(cmd.Topics) > most {
		sh.replyError(id, cmd.ID, wire.TooManyTopics, fmt.Sprintf("%d topics in one command; at most %d are taken (--max-subscriptions)", len(cmd.Topics), most))
		return
	}
	for _, topic := range cmd.Topics {
		if err := topics.CheckPattern(topic); err != nil {
			sh.replyError(id, cmd.ID, wire.InvalidTopic, err.Error())
			continue
		}
		if sh.mustWait(id, yes) {
			cmdID, topic := cmd.ID, strings.Clone(topic)
			if err := sh.wait(id, &step{do: func(*wire.Error) { sh.unsubscribe(id, cmdID, topic) }}); err != nil {
				sh.replyError(id, cmdID, err.Code, err.Message)
			}
			continue
		}
		sh.unsubscribe(id, cmd.ID, topic)
	}
}

func (sh *shard) unsubscribe(id poller.Token, cmd wire.ID, topic string) {
	sh.members.Unsubscribe(id.Slot(), topic)
	sh.reply(id, wire.AppendUnsubscribed(sh.json[:0], cmd, topic, wire.UnsubscribedRequested))
}

func (sh *shard) presence(id poller.Token, cmd *wire.Command) {
	topic := cmd.Topics[0]
	if err := topics.CheckPattern(topic); err != nil {
		sh.replyError(id, cmd.ID, wire.InvalidTopic, err.Error())
		return
	}
	d := sh.decide(id, auth.Subscribe, topic)
	switch {
	case sh.mustWait(id, d):
		cmdID, topic := cmd.ID, strings.Clone(topic)
		if err := sh.wait(id, &step{action: auth.Subscribe, topic: topic, do: func(refused *wire.Error) {
			if refused != nil {
				sh.replyError(id, cmdID, refused.Code, refused.Message)
				return
			}
			sh.countPresence(id, cmdID, topic)
		}}); err != nil {
			sh.replyError(id, cmdID, err.Code, err.Message)
		}
	case d == no:
		err := sh.forbidden(id, auth.Subscribe, topic)
		sh.replyError(id, cmd.ID, err.Code, err.Message)
	default:
		sh.countPresence(id, cmd.ID, topic)
	}
}

func (sh *shard) countPresence(id poller.Token, cmd wire.ID, topic string) {
	sh.reply(id, wire.AppendPresence(sh.json[:0], cmd, topic, sh.server.connectionsOf(topic)))
}

// publish hands a client's message to NATS where that is permitted, and replies
// when NATS has it.
func (sh *shard) publish(id poller.Token, cmd *wire.Command) {
	topic, cmdID := cmd.Topics[0], cmd.ID
	if err := topics.CheckTopic(topic); err != nil {
		sh.replyError(id, cmdID, wire.InvalidTopic, err.Error())
		return
	}
	d := sh.decide(id, auth.Publish, topic)
	if d == no && !sh.mustWait(id, d) { // before what says something of the namespace
		err := sh.forbidden(id, auth.Publish, topic)
		sh.replyError(id, cmdID, err.Code, err.Message)
		return
	}
	data, refused := wire.PayloadOf(cmd.Data, cmd.Encoding)
	if refused != nil {
		sh.replyError(id, cmdID, refused.Code, refused.Message)
		return
	}
	if len(data) > sh.server.maxMessage(topic) {
		refused := sh.server.tooLarge(topic)
		sh.replyError(id, cmdID, refused.Code, refused.Message)
		return
	}
	key := publicationID(topic, cmd.Key)
	topic, data = strings.Clone(topic), bytes.Clone(data) // both are views of the read buffer
	if !sh.mustWait(id, d) {
		sh.handOn(id, cmdID, topic, data, key)
		return
	}
	if err := sh.wait(id, &step{action: auth.Publish, topic: topic, size: len(data), do: func(refused *wire.Error) {
		if refused != nil {
			sh.replyError(id, cmdID, refused.Code, refused.Message)
			return
		}
		sh.handOn(id, cmdID, topic, data, key)
	}}); err != nil {
		sh.replyError(id, cmdID, err.Code, err.Message)
	}
}

// handOn publishes what is permitted.
func (sh *shard) handOn(id poller.Token, cmdID wire.ID, topic string, data []byte, key string) {
	c := sh.client(id.Slot())
	if sh.publishTooFast(id, c, cmdID) {
		return
	}
	if c.publish >= maxPublishing {
		sh.replyError(id, cmdID, wire.RateLimited, fmt.Sprintf("%d publications of this connection are on their way: wait for their replies", maxPublishing))
		return
	}
	taken := sh.server.handToNATS(natsbus.Publication{Topic: topic, Data: data, ID: key, Done: func(at topics.Cursor, err error) {
		sh.loop.Post(poller.Func(func() {
			if sh.table.IsOpen(id) {
				sh.client(id.Slot()).publish--
			}
			if err != nil {
				e := publishError(err)
				sh.replyError(id, cmdID, e.Code, e.Message)
				return
			}
			sh.reply(id, wire.AppendPublished(sh.json[:0], cmdID, topic, at.String()))
		}))
	}}, tracing.OverWebSocket)
	if !taken {
		sh.replyError(id, cmdID, wire.Unavailable, queueFull)
		return
	}
	c.publish++
}

// maxPublishing bounds the publications of one connection that are on their
// way, so that it cannot fill the queue for all.
const maxPublishing = 256

const queueFull = "too many publications are waiting for NATS: try again"

// publishError says in the protocol's words why NATS did not take a message.
func publishError(err error) *wire.Error {
	switch {
	case errors.Is(err, natsbus.ErrTooLarge):
		return &wire.Error{Code: wire.MessageTooLarge, Message: err.Error()}
	case errors.Is(err, natsbus.ErrDenied):
		return &wire.Error{Code: wire.Forbidden, Message: err.Error()}
	case errors.Is(err, natsbus.ErrAway), errors.Is(err, natsbus.ErrBusy), errors.Is(err, natsbus.ErrClosed):
		return &wire.Error{Code: wire.Unavailable, Message: err.Error()}
	}
	return &wire.Error{Code: wire.Internal, Message: err.Error()}
}
