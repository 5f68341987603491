package server

import (
	"errors"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/handover"
)

// The embedded NATS and its store can be of one process alone. So the one that is
// replaced stops its own before the next opens it, and opens it again where
// that one fails. Meanwhile nothing is read of clients, and who publishes to NATS
// itself connects again; namespaces without history have a gap, as after any
// restart of NATS.

// storeTime is for how long the next process may open the store, and meet other nodes.
const storeTime = 10 * time.Second

var errKeptInMemory = errors.New("the embedded NATS keeps everything in this process (--store memory): a hot upgrade takes a folder, or an external NATS (--nats)")

var errStoreAway = errors.New("the embedded NATS is not back since an upgrade that failed: the log says why")

// embeddedStore is the store of the embedded NATS; "": NATS is external.
func embeddedStore(cfg *config.Config) string {
	if len(cfg.NATS) > 0 {
		return ""
	}
	return cfg.Store
}

// lendStore stops the embedded NATS when the new process needs it, and clients'
// publications have been answered.
func (s *Server) lendStore(link *handover.Link, freeze func()) error {
	if _, err := link.Expect(handover.KindNeedStore); err != nil {
		return err
	}
	s.errands.hold() // before it waits for what is under way
	freeze()
	if err := s.bus.Suspend(); err != nil {
		return err
	}
	s.next.allow(link, min(s.next.prepare, storeTime)) // clients are not read
	return link.Send(handover.KindStore, nil)
}

// takeStoreBack undoes lendStore, if that was done. Where the embedded NATS does not
// come back at once, that is tried again beside all else.
func (s *Server) takeStoreBack() {
	if s.bus.Serves() {
		return
	}
	if err := s.bus.Resume(); err != nil {
		s.log.Warn("the embedded NATS does not come back yet", "err", err)
		s.next.reopening.Go(s.reopen)
		return
	}
	for end := time.Now().Add(s.next.carry); !s.bus.State().Connected && time.Now().Before(end); { // who waits to publish is not to be refused
		time.Sleep(time.Millisecond)
	}
}

// After how long it is tried to open the embedded NATS again, first and at most.
const (
	reopenPause    = 100 * time.Millisecond
	reopenMaxPause = 5 * time.Second
)

// reopen ends when the embedded NATS is back, or with the serving: what keeps it away
// may end late, as a disk that is full.
func (s *Server) reopen() {
	began := time.Now()
	for pause := reopenPause; ; pause = min(2*pause, reopenMaxPause) {
		select {
		case <-time.After(pause):
		case <-s.next.ending:
			return
		}
		err := s.bus.Resume()
		if err == nil {
			s.log.Info("the embedded NATS is back", "after", time.Since(began))
			return
		}
		s.log.Warn("the embedded NATS does not come back yet", "after", time.Since(began), "err", err)
	}
}

// awaitStore returns when the embedded NATS can be opened. It may be called on nil.
func (h *heir) awaitStore() error {
	if h == nil || h.offer.Store == "" {
		return nil
	}
	if err := h.link.Send(handover.KindNeedStore, nil); err != nil {
		return err
	}
	_, err := h.link.Expect(handover.KindStore)
	return err
}
