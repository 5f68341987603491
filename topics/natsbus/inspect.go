package natsbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Inspection is how an external NATS stands.
type Inspection struct {
	URL        string // of the server that answered, without credentials
	Version    string
	Cluster    string // "": it is alone
	RoundTrip  time.Duration
	MaxPayload int64 // bytes
	JetStream  bool  // of that server; another of the cluster may have it

	// Ahead is by how much the server's clock is before ours, give or take a
	// round trip. It is known where Clock is set: a stream has told.
	Ahead time.Duration
	Clock bool

	Streams []StreamInspection // in the order of their namespaces
}

// StreamInspection is how the stream of a namespace stands.
type StreamInspection struct {
	Namespace, Stream string
	Missing           bool     // Open would make it
	Changes           []string // Open would make these
	Err               error    // Open would fail
}

// Inspect looks at an external NATS as Open would, and changes nothing there.
// An error is one line that names the setting which cures it.
func Inspect(ctx context.Context, cfg Config) (*Inspection, error) {
	cfg = cfg.withDefaults()
	if len(cfg.URLs) == 0 {
		return nil, errors.New("the embedded NATS server is none to inspect: name one with --nats")
	}
	histories, err := newHistories(cfg)
	if err != nil {
		return nil, err
	}
	life, hangUp := context.WithCancel(ctx)
	defer hangUp()
	dial, err := newDialer(life, life, cfg)
	if err != nil {
		return nil, err
	}
	link := newLink("doctor", cfg.Log)
	asker := newAsker(link, histories, cfg.Log)
	if err := link.connect(ctx, dial, nil); err != nil {
		return nil, err
	}
	defer link.close()
	found := &Inspection{
		URL:        link.state().url,
		Version:    link.nc.ConnectedServerVersion(),
		Cluster:    link.nc.ConnectedClusterName(),
		MaxPayload: link.state().maxPayload,
		JetStream:  link.state().jetStream,
	}
	if found.RoundTrip, err = link.nc.RTT(); err != nil {
		return nil, fmt.Errorf("NATS at %s does not answer: %w", found.URL, err)
	}
	if len(histories) == 0 {
		return found, nil
	}
	if err := asker.listen(); err != nil {
		return nil, err
	}
	running := make(chan struct{})
	go func() {
		defer close(running)
		asker.run()
	}()
	defer func() {
		asker.close()
		<-running
	}()
	for _, namespace := range slices.Sorted(maps.Keys(histories)) {
		found.look(asker, histories[namespace])
	}
	return found, nil
}

// look asks for one stream.
func (i *Inspection) look(a *asker, h *history) {
	s := StreamInspection{Namespace: h.namespace, Stream: h.config.Name}
	asked := time.Now()
	reply, err := a.info(h, infoRequest{})
	answered := time.Now()
	switch {
	case isAPIError(err, codeStreamNotFound):
		s.Missing = true
		if h.config.Existing {
			s.Err = fmt.Errorf("namespace %s: stream %s does not exist: create it, or correct the name", h.namespace, h.config.Name)
		}
	case isAPIError(err, codeNotEnabledAccount, codeNotEnabled):
		s.Err = fmt.Errorf("namespace %s keeps history, and the account has no JetStream: enable it for the account, or let the namespace keep none", h.namespace)
	case errors.Is(err, ErrDenied):
		s.Err = fmt.Errorf("namespace %s: stream %s: %w: allow this account to ask for it", h.namespace, h.config.Name, err)
	case err != nil:
		s.Err = fmt.Errorf("namespace %s: stream %s: %w: see whether JetStream is enabled and has a leader there", h.namespace, h.config.Name, away(err))
	case h.config.Existing:
		s.Err = checkExisting(h, reply.Config)
	default:
		is := reply.Config
		if s.Err = h.unchangeable(&is); s.Err == nil {
			for _, d := range differences(&is, h.wanted()) {
				s.Changes = append(s.Changes, d.setting+": "+d.from+" to "+d.to)
			}
		}
	}
	if reply != nil && !reply.TimeStamp.IsZero() && !i.Clock {
		i.Clock, i.Ahead = true, reply.TimeStamp.Sub(asked.Add(answered.Sub(asked)/2))
	}
	i.Streams = append(i.Streams, s)
}
