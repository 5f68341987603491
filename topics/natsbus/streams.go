package natsbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// retryOpening is how often Open asks again while JetStream does not answer,
// as when a cluster elects.
const retryOpening = 100 * time.Millisecond

// electing is how long Open waits at least where NATS is a cluster: when a leader
// has died, the others notice after 4 to 9 s, and may take several rounds to agree.
const electing = 30 * time.Second

// keeper makes sure of the streams when the Bus opens.
type keeper struct {
	asker     *asker
	link      *link
	prefix    string
	histories map[string]*history
	patience  time.Duration // while JetStream does not answer, and is no cluster's
	log       *slog.Logger
}

// openAll makes or checks the stream of each namespace.
func (k *keeper) openAll(ctx context.Context) error {
	owners := make(map[string]*history) // by stream
	for _, namespace := range slices.Sorted(maps.Keys(k.histories)) {
		h := k.histories[namespace]
		if other := owners[h.config.Name]; other != nil {
			return fmt.Errorf("namespaces %s and %s: both are to be kept in stream %s: give each its own", other.namespace, namespace, h.config.Name)
		}
		owners[h.config.Name] = h
		if err := k.open(ctx, h); err != nil {
			return err
		}
	}
	return k.checkApart()
}

// open retries while JetStream is silent, for as long as Open has patience.
func (k *keeper) open(ctx context.Context, h *history) error {
	began := time.Now()
	for tries := 0; ; tries++ {
		err := k.tryOpen(h)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("namespace %s: stream %s: %w: given up", h.namespace, h.config.Name, ctx.Err())
		case !errors.Is(err, ErrAway):
			return err
		case !k.mayHaveJetStream():
			return fmt.Errorf("namespace %s keeps history, and NATS%s has no JetStream: enable it there, or let the namespace keep none", h.namespace, k.where())
		case time.Since(began) > k.mayTake():
			return fmt.Errorf("namespace %s: stream %s: %w%s: see whether JetStream is enabled and has a leader there", h.namespace, h.config.Name, err, k.where())
		case tries == 0:
			k.log.Warn("JetStream does not answer for a stream: waiting", "stream", h.config.Name, "namespace", h.namespace, "err", err, "at_most", k.mayTake())
		}
		time.Sleep(retryOpening)
	}
}

// mayTake is how long JetStream may be silent.
func (k *keeper) mayTake() time.Duration {
	if k.link.nc.ConnectedClusterName() == "" { // it has nobody to elect
		return k.patience
	}
	return max(k.patience, electing)
}

// mayHaveJetStream is false where the server has none and is alone.
func (k *keeper) mayHaveJetStream() bool {
	return k.link.state().jetStream || k.link.nc.ConnectedClusterName() != ""
}

func (k *keeper) where() string {
	if url := k.link.state().url; url != "" {
		return " at " + url
	}
	return ""
}

// tryOpen asks for the stream and does what is needed.
func (k *keeper) tryOpen(h *history) error {
	reply, err := k.asker.info(h, infoRequest{})
	missing := isAPIError(err, codeStreamNotFound)
	switch {
	case isAPIError(err, codeNotEnabledAccount, codeNotEnabled):
		return fmt.Errorf("namespace %s keeps history, and the account has no JetStream on NATS%s: enable it for the account, or let the namespace keep none", h.namespace, k.where())
	case errors.Is(err, ErrDenied):
		return fmt.Errorf("namespace %s: stream %s: %w: allow this account to ask for it", h.namespace, h.config.Name, err)
	case missing && h.config.Existing:
		return fmt.Errorf("namespace %s: stream %s does not exist: create it, or correct the name", h.namespace, h.config.Name)
	case missing:
		if reply, err = k.asker.create(h); err != nil {
			return k.explain(h, "create", nil, err)
		}
		k.log.Info("stream created", "stream", h.config.Name, "namespace", h.namespace)
	case err != nil:
		return away(err)
	case h.config.Existing:
		if err := checkExisting(h, reply.Config); err != nil {
			return err
		}
	default:
		if reply, err = k.update(h, reply); err != nil {
			return err
		}
	}
	return k.adopt(h, reply)
}

// adopt takes a stream as it is now, which republishes all that it stores.
func (k *keeper) adopt(h *history, reply *apiReply) error {
	h.note(&reply.StreamInfo)
	live, err := newRepublish(*reply.Config.RePublish)
	if err != nil {
		return fmt.Errorf("namespace %s: stream %s: %w", h.namespace, h.config.Name, err)
	}
	h.live, h.lives = live, nil
	for _, subject := range reply.Config.Subjects {
		if pattern, all := live.apply(subject); all {
			h.lives = append(h.lives, pattern)
		}
	}
	if reply.Cluster != nil && len(reply.Cluster.Name) > 0 && reply.Config.Storage == jetstream.MemoryStorage && reply.Config.Replicas == 1 {
		k.log.Warn("a stream in memory without replicas is emptied when its server restarts, and in a cluster nobody can tell: give it 3 replicas, or files",
			"stream", h.config.Name, "namespace", h.namespace)
	}
	return nil
}

func (a *asker) create(h *history) (*apiReply, error) {
	reply, err := a.call("STREAM.CREATE", h.config.Name, h.wanted())
	if err == nil {
		h.note(&reply.StreamInfo)
	}
	return reply, err
}

// unchangeable says why a stream of pushd's own is not as wanted and cannot be
// made so: that is for people to decide, since it would cost the messages.
func (h *history) unchangeable(cfg *jetstream.StreamConfig) error {
	wanted := h.wanted()
	stuck := func(problem, cure string) error {
		return fmt.Errorf("namespace %s: stream %s %s, which cannot be changed: %s, or remove it with its messages: nats stream rm %s",
			h.namespace, h.config.Name, problem, cure, h.config.Name)
	}
	switch {
	case cfg.Storage != wanted.Storage:
		return stuck(fmt.Sprintf("is kept in %v and should be in %v", storageName(cfg.Storage), storageName(wanted.Storage)), "configure the namespace so")
	case cfg.Retention != jetstream.LimitsPolicy:
		return stuck("has "+retentionName(cfg.Retention)+" retention and should have limits", "name another stream")
	case cfg.Mirror != nil || len(cfg.Sources) > 0:
		return stuck("takes its messages from other streams", "name another stream")
	case cfg.SubjectTransform != nil:
		return stuck("changes its subjects", "name another stream")
	case cfg.Sealed:
		return stuck("is sealed", "name another stream")
	}
	for _, subject := range cfg.Subjects {
		if !h.covers(subject) {
			return fmt.Errorf("namespace %s: stream %s stores %s, which is not %s nor below it: name another stream", h.namespace, h.config.Name, subject, h.config.Subject)
		}
	}
	return nil
}

// update changes a stream of pushd's own where it is not as wanted.
func (k *keeper) update(h *history, is *apiReply) (*apiReply, error) {
	wanted := h.wanted()
	cfg := is.Config
	if err := h.unchangeable(&cfg); err != nil {
		return nil, err
	}
	todo := differences(&cfg, wanted)
	if len(todo) == 0 {
		return k.settle(h, is)
	}
	reply, err := k.asker.call("STREAM.UPDATE", h.config.Name, cfg)
	if err != nil {
		return nil, k.explain(h, "update", todo, err)
	}
	level, changed := slog.LevelInfo, make([]string, 0, len(todo))
	for _, c := range todo {
		changed = append(changed, c.setting+": "+c.from+" to "+c.to)
		if c.shrinks {
			level = slog.LevelWarn
		}
	}
	k.log.Log(context.Background(), level, "stream updated", "stream", h.config.Name, "namespace", h.namespace, "changed", strings.Join(changed, "; "))
	return k.settle(h, reply)
}

// settle writes down at which number a bound was raised, now that it is.
func (k *keeper) settle(h *history, is *apiReply) (*apiReply, error) {
	cfg := is.Config
	if cfg.Metadata[raisedKey] != raisedNow {
		return is, nil
	}
	cfg.Metadata = maps.Clone(cfg.Metadata)
	cfg.Metadata[raisedKey] = strconv.FormatUint(is.State.LastSeq, 10)
	reply, err := k.asker.call("STREAM.UPDATE", h.config.Name, cfg)
	if errors.Is(err, ErrDenied) {
		return is, nil // until somebody may, resumption is refused where it may have been whole
	}
	if err != nil {
		return nil, k.explain(h, "update", nil, err)
	}
	return reply, nil
}

// covers reports whether all of a pattern is the namespace's.
func (h *history) covers(pattern string) bool {
	return pattern == h.config.Subject || strings.HasPrefix(pattern, h.config.Subject+".")
}

// explain makes one line of why a stream is not as it must be.
func (k *keeper) explain(h *history, verb string, todo []difference, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, ErrDenied):
	case errors.As(err, &api) && (api.Code != 503 || api.ErrorCode == codeInsufficient):
		return fmt.Errorf("namespace %s: cannot %s stream %s: %s: correct the namespace's history, or the limits of the NATS account", h.namespace, verb, h.config.Name, api.Description)
	default:
		return away(err)
	}
	var differ string
	if len(todo) > 0 {
		settings := make([]string, len(todo))
		for i, d := range todo {
			settings[i] = d.setting + " is " + d.from
		}
		differ = " (" + strings.Join(settings, "; ") + ")"
	}
	return fmt.Errorf("namespace %s: this NATS account may not %s stream %s%s: allow $JS.API.STREAM.%s.%s, or have it done: %s",
		h.namespace, verb, h.config.Name, differ, strings.ToUpper(verb), h.config.Name, command(verb, h.wanted()))
}

// checkApart refuses streams that meet: one that stores what another
// republishes may feed it back for ever, and where two republish to the same
// subjects their messages would come twice.
func (k *keeper) checkApart() error {
	namespaces := slices.Sorted(maps.Keys(k.histories))
	for _, name := range namespaces {
		h := k.histories[name]
		cure := fmt.Sprintf("nats stream edit %s --republish-destination='%s'", h.config.Name, h.own.Destination)
		if everywhere := h.live.everywhere(); server.SubjectsCollide(everywhere, k.prefix+".>") || everywhere == k.prefix {
			return fmt.Errorf("namespace %s: stream %s republishes to %s, where namespaces without history live: %s", name, h.config.Name, everywhere, cure)
		}
		for _, otherName := range namespaces {
			other := k.histories[otherName]
			for _, live := range h.lives {
				if server.SubjectsCollide(live, other.config.Subject) || server.SubjectsCollide(live, other.config.Subject+".>") {
					return fmt.Errorf("namespace %s: stream %s republishes to %s, which stream %s stores: %s", name, h.config.Name, live, other.config.Name, cure)
				}
				for _, theirs := range other.lives {
					if otherName != name && server.SubjectsCollide(live, theirs) {
						return fmt.Errorf("namespaces %s and %s: streams %s and %s both republish to %s: %s", name, otherName, h.config.Name, other.config.Name, live, cure)
					}
				}
			}
		}
	}
	return nil
}
