package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/poller"
)

// heir is what a new process has of the one before it while it takes over.
type heir struct {
	link      *handover.Link
	offer     handover.Offer
	listeners []*poller.Listener // of the shards, until a table has them
	admin     net.Listener       // likewise
	rights    map[uint64]*auth.Rights
	adopted   int
}

// TakeOver is New in place of a running pushd, which has started this process and
// is at the other end of link. When it returns without error, the clients are this
// process's, and Run goes on with them. Else they are still the other's.
func TakeOver(cfg config.Config, log *slog.Logger, link *handover.Link) (s *Server, err error) {
	defer link.Close()
	h := &heir{link: link, rights: make(map[uint64]*auth.Rights)}
	defer func() {
		if err != nil {
			_ = link.Send(handover.KindFailed, []byte(err.Error())) // who has gone need not be told
			h.close()
		}
	}()
	link.SetDeadline(time.Now().Add(prepareTime))
	if err := h.greet(&cfg); err != nil {
		return nil, err
	}
	if s, err = open(cfg, log, h); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.release()
			s = nil
		}
	}()
	s.bus.Start(s.incoming())
	h.meet(s)
	if err := link.Send(handover.KindOpen, nil); err != nil {
		return s, err
	}
	if err := h.collect(s); err != nil {
		return s, err
	}
	collects := debug.SetGCPercent(-1) // clients wait: the memory limit aside, garbage may, too
	err = h.adoptAll(s)
	debug.SetGCPercent(collects)
	if err != nil {
		return s, err
	}
	for _, sh := range s.shards {
		sh.table.Settle()
		sh.sortDue()
	}
	s.hub.Settle()
	if h.offer.Store != "" { // publishers may have come to the new NATS before this process subscribed there
		s.hub.LostAll()
	}
	if err := link.Send(handover.KindAdopted, handover.AppendEnd(nil, h.adopted)); err != nil {
		return s, err
	}
	// Who would have these clients back kills this process first. So if the other
	// says nothing more it has died, and nobody has them but this one.
	link.SetDeadline(time.Time{})
	if _, err := link.Expect(handover.KindCommit); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		return s, err
	}
	log.Info("took over", "connections", h.adopted)
	return s, nil
}

// greet learns what is offered, and refuses what cannot be taken.
func (h *heir) greet(cfg *config.Config) error {
	hello := handover.Hello{Version: handover.Version, Software: software()}
	if err := h.link.Send(handover.KindHello, hello.Append(nil)); err != nil {
		return err
	}
	k, payload, fds, err := h.link.Receive()
	if err != nil {
		return err
	}
	for i, fd := range fds {
		if i == len(fds)-1 {
			f := os.NewFile(uintptr(fd), "admin listener")
			h.admin, err = net.FileListener(f)
			err = errors.Join(err, f.Close())
		} else {
			var l *poller.Listener
			if l, err = poller.Inherit(fd); err == nil {
				h.listeners = append(h.listeners, l)
			}
		}
		if err != nil {
			for _, fd := range fds[i+1:] {
				unix.Close(fd)
			}
			return err
		}
	}
	if k != handover.KindOffer {
		return fmt.Errorf("handover: message %d came in place of an offer: %.200s", k, payload)
	}
	if h.offer, err = handover.ParseOffer(payload); err != nil {
		return err
	}
	switch {
	case len(h.listeners) == 0:
		return errors.New("handover: no listener was offered")
	case h.offer.Listen != cfg.Listen:
		return fmt.Errorf("--listen was %s and is %s now: that takes a restart", h.offer.Listen, cfg.Listen)
	case h.offer.Admin != cfg.Admin:
		return fmt.Errorf("--admin was %s and is %s now: that takes a restart", h.offer.Admin, cfg.Admin)
	case h.offer.Store != embeddedStore(cfg):
		return errors.New("the embedded NATS is now another, or none, by --nats or --store: that takes a restart")
	case cfg.Shards != 0 && cfg.Shards != len(h.listeners):
		return fmt.Errorf("--shards was %d and is %d now: that takes a restart", len(h.listeners), cfg.Shards)
	}
	return nil
}

// meetTime bounds how long the other nodes of the cluster are awaited.
const meetTime = 4 * time.Second

// meet hears how many connections the other nodes have, as far as they answer, so
// that clients are told no less after the handover than before.
func (h *heir) meet(s *Server) {
	m := s.self()
	m.silent.Store(true)
	m.listen()
	if len(h.offer.Others) == 0 || s.cfg.PresenceTopics == 0 {
		return
	}
	m.peers.send(controlAll, &note{Do: doTell})
	for end := time.Now().Add(meetTime); time.Now().Before(end) && !m.peers.known.Knows(h.offer.Others); {
		time.Sleep(10 * time.Millisecond)
	}
}

// collect subscribes on NATS to all that clients are subscribed to.
func (h *heir) collect(s *Server) error {
	if err := h.borrow(s); err != nil {
		return err
	}
	payload, err := h.link.Expect(handover.KindInterests)
	if err != nil {
		return err
	}
	in, err := handover.ParseInterests(payload)
	if err != nil {
		return err
	}
	if len(in.Shards) != len(s.shards) {
		return fmt.Errorf("handover: %d shards are handed over, and there are %d", len(in.Shards), len(s.shards))
	}
	for i, n := range in.Shards {
		s.shards[i].table.Reserve(n.Slots, n.Generation)
	}
	stands := make(chan error, 1)
	s.hub.Expect(in.Patterns, func(err error) { stands <- err })
	timeout := time.NewTimer(collectTime)
	defer timeout.Stop()
	select {
	case err = <-stands:
	case <-timeout.C:
		err = fmt.Errorf("NATS has not answered within %v", collectTime)
	}
	if err != nil {
		return fmt.Errorf("subscribing on NATS to what clients are subscribed to: %w", err)
	}
	return h.link.Send(handover.KindCollecting, nil)
}

// borrow takes the sockets that come ahead.
func (h *heir) borrow(s *Server) error {
	for {
		k, payload, fds, err := h.link.Receive()
		switch {
		case err != nil:
			return err
		case k == handover.KindSockets:
			if err := s.borrow(payload, fds); err != nil {
				return err
			}
		case k == handover.KindAhead && len(fds) == 0:
			return h.link.Send(handover.KindBorrowed, nil)
		default:
			closeAll(fds)
			return fmt.Errorf("handover: message %d came among sockets: %.200s", k, payload)
		}
	}
}

// borrow has a shard watch the sockets of one message.
func (s *Server) borrow(payload []byte, fds []int) error {
	sockets, err := handover.ParseSockets(payload)
	if err == nil && (sockets.Shard >= len(s.shards) || len(sockets.IDs) != len(fds)) {
		err = fmt.Errorf("handover: %d sockets came for %d connections of shard %d", len(fds), len(sockets.IDs), sockets.Shard)
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	for i, id := range sockets.IDs {
		if err := s.shards[sockets.Shard].table.Borrow(id, fds[i]); err != nil {
			closeAll(fds[i+1:])
			return err
		}
	}
	return nil
}

// adoptAll takes what is handed over until that is all.
func (h *heir) adoptAll(s *Server) error {
	h.link.SetDeadline(time.Now().Add(collectTime + prepareTime)) // the other process has the time in view, and ends this one
	for {
		k, payload, fds, err := h.link.Receive()
		if err != nil {
			return err
		}
		if k != handover.KindClients && len(fds) > 0 {
			closeAll(fds)
			return fmt.Errorf("handover: message %d came with %d sockets", k, len(fds))
		}
		switch k {
		case handover.KindFeed:
			feed, err := handover.ParseFeed(payload)
			if err != nil {
				return err
			}
			if err := s.hub.ImportFeed(&feed); err != nil {
				return err
			}
		case handover.KindRights:
			record, err := handover.ParseRights(payload)
			if err != nil {
				return err
			}
			if h.rights[record.Number], err = auth.NewRights(record.Subscribe, record.Publish); err != nil {
				return err
			}
		case handover.KindClients:
			for _, sh := range s.shards {
				sh.loop.CatchUp() // what is handed over as so old is so old now, and not since the loop was made
			}
			if err := h.adopt(s, payload, fds); err != nil {
				return err
			}
		case handover.KindEnd:
			n, err := handover.ParseEnd(payload)
			if err == nil && n != h.adopted {
				err = fmt.Errorf("handover: %d of %d connections came", h.adopted, n)
			}
			return err
		default:
			return fmt.Errorf("handover: message %d came among clients: %.200s", k, payload)
		}
	}
}

func (h *heir) adopt(s *Server, payload []byte, fds []int) error {
	err := handover.ParseClients(payload, func(c *handover.Client) error {
		fd := conn.Borrowed
		switch {
		case c.Shard >= len(s.shards):
			return fmt.Errorf("handover: there is no shard %d", c.Shard)
		case c.Ahead:
		case len(fds) == 0:
			return errors.New("handover: a connection came without its socket")
		default:
			fd, fds = fds[0], fds[1:]
		}
		h.adopted++
		return s.shards[c.Shard].adopt(c, fd, h)
	})
	if err == nil && len(fds) > 0 {
		err = fmt.Errorf("handover: %d sockets came without connections", len(fds))
	}
	closeAll(fds)
	return err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// close gives up what nobody has taken.
func (h *heir) close() {
	for _, l := range h.listeners {
		l.Close()
	}
	if h.admin != nil {
		h.admin.Close()
	}
}
