package doctor

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/server"
	"github.com/pushd/pushd/topics/natsbus"
)

const (
	// apart is by how much clocks may differ before tokens are refused for it.
	apart = 5 * time.Second

	// far is a round trip after which a message is late before pushd has it.
	far = 100 * time.Millisecond
)

// nats: it answers, and its streams are as configured.
func (e *examination) nats(ctx context.Context) {
	const subject = "NATS"
	if len(e.cfg.NATS) == 0 {
		e.okf(subject, "embedded; it runs with the server")
		return
	}
	found, err := natsbus.Inspect(ctx, server.NATSConfig(e.cfg, slog.New(slog.DiscardHandler)))
	if err != nil {
		e.badf(Failure, subject, "", "%v", err)
		return
	}
	where := "alone"
	if found.Cluster != "" {
		where = "of cluster " + found.Cluster
	}
	if found.RoundTrip > far {
		e.badf(Warning, subject, "a NATS server that is nearer", "%s, %s, answers after %v", found.URL, where, found.RoundTrip.Round(time.Millisecond))
	} else {
		e.okf(subject, "%s, version %s, %s", found.URL, found.Version, where)
	}
	if most := uint64(found.MaxPayload); most < uint64(e.cfg.MaxMessage) {
		e.badf(Warning, "NATS max_payload", "max_payload of the NATS server, or --max-message", "%v, less than --max-message %v: larger messages are refused", config.Bytes(most), e.cfg.MaxMessage)
	}
	e.clock(found)
	for _, s := range found.Streams {
		e.stream(s)
	}
}

func (e *examination) clock(found *natsbus.Inspection) {
	const subject = "clock"
	switch {
	case !found.Clock:
		e.okf(subject, "not compared: no stream is there to tell what time NATS has")
	case found.Ahead.Abs() > found.RoundTrip+apart:
		e.badf(Warning, subject, "run chrony or systemd-timesyncd on both", "differs from that of NATS by %v: ends of tokens, cursors and ages of history mean different times", found.Ahead.Abs().Round(time.Millisecond))
	default:
		e.okf(subject, "that of NATS, give or take %v", max(found.Ahead.Abs(), found.RoundTrip).Round(time.Millisecond))
	}
}

func (e *examination) stream(s natsbus.StreamInspection) {
	subject := "stream " + s.Stream
	switch {
	case s.Err != nil:
		e.badf(Failure, subject, "", "%v", s.Err)
	case s.Missing:
		e.okf(subject, "not there yet: the server makes it")
	case len(s.Changes) > 0:
		e.badf(Warning, subject, "nothing, if that is meant", "the server will change it: %s", strings.Join(s.Changes, "; "))
	default:
		e.okf(subject, "as namespace %s wants it", s.Namespace)
	}
}
