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
	freeze()
	if err := s.bus.Suspend(); err != nil {
		return err
	}
	s.next.allow(link, min(s.next.prepare, storeTime)) // clients are not read
	return link.Send(handover.KindStore, nil)
}

// takeStoreBack undoes lendStore, if that was done.
func (s *Server) takeStoreBack() {
	if s.bus.Serves() {
		return
	}
	if err := s.bus.Resume(); err != nil {
		s.log.Error("the embedded NATS does not come back: restart this node", "err", err)
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
