package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/poller"
)

// batchBytes is about how many bytes of clients go into one message: the other
// process works at one while the next is made.
const batchBytes = 32 << 10

// handOverTo follows docs/UPGRADE.md. Whether it fails or not, goOn comes next.
func (s *Server) handOverTo(h *handing) error {
	link := h.link
	s.next.allow(link, s.next.prepare)
	if err := s.offer(h); err != nil {
		return err
	}
	freeze := sync.OnceFunc(func() {
		h.frozen = time.Now()
		s.freeze(true)
		s.awaitQuiet()
	})
	if embeddedStore(&s.cfg) != "" {
		if err := s.lendStore(link, freeze); err != nil {
			return err
		}
	}
	if _, err := link.Expect(handover.KindOpen); err != nil {
		return err
	}
	ahead, err := s.lend(link)
	if err != nil {
		return err
	}
	s.hub.Record()
	freeze()
	s.next.allow(link, s.next.collect)
	interests := handover.Interests{Patterns: s.hub.Patterns(), Shards: make([]handover.Names, len(s.shards))}
	s.onEach(func(sh *shard) {
		interests.Shards[sh.index] = handover.Names{Slots: sh.table.Slots(), Generation: sh.table.Generation()}
	})
	if err := link.Send(handover.KindInterests, interests.Append(nil)); err != nil {
		return err
	}
	if _, err := link.Expect(handover.KindCollecting); err != nil {
		return err
	}
	// From now on all that comes goes to both; what came to this process alone has to
	// have arrived. Where NATS changed hands too, the other reads what is stored, and
	// tells of what is not.
	if s.bus.Serves() {
		if err := s.catchUp(); err != nil {
			return err
		}
	}
	if err := s.holdAdmin(); err != nil {
		return err
	}
	s.next.allow(link, s.next.carry+time.Duration(s.quota.Open())*carryEach)
	return s.carry(h, ahead)
}

// goOn ends what was held up, with what was not given. When nothing was, the new
// process is no more.
func (s *Server) goOn(h *handing, given bool) {
	if !h.paused.IsZero() {
		h.done.Paused = time.Since(h.paused) // the new process runs, or this one does next
	}
	for _, p := range h.loops {
		p.do(func() { p.end(given) })
		close(p.work)
	}
	if !given {
		s.goOnAdmin()
	}
	h.done.Left = s.quota.Open()
	s.hub.Forget()
	if !given {
		s.takeStoreBack()
	}
	s.errands.goOn(given)
	if !h.frozen.IsZero() {
		h.done.Unread = time.Since(h.frozen)
	}
	s.freeze(false) // also what only was lent is nobody else's any more
}

// offer says what there is to take over.
func (s *Server) offer(h *handing) error {
	payload, err := h.link.Expect(handover.KindHello)
	if err != nil {
		return err
	}
	hello, err := handover.ParseHello(payload)
	if err != nil {
		return err
	}
	if err := handover.CheckVersion(hello.Version); err != nil {
		return err
	}
	h.done.Version = hello.Software
	admin, err := duplicate(s.adminLn)
	if err != nil {
		return fmt.Errorf("the admin listener: %w", err)
	}
	defer unix.Close(admin)
	var fds []int
	for _, sh := range s.shards {
		fds = append(fds, sh.listener.FD())
	}
	m := s.self()
	offer := handover.Offer{NodeID: s.node, NodeName: s.name, Started: m.reporter.started, Others: m.peers.names(), Listen: s.cfg.Listen, Admin: s.cfg.Admin, Store: embeddedStore(&s.cfg), Access: accessOf(&s.cfg)}
	return h.link.Send(handover.KindOffer, offer.Append(nil), append(fds, admin)...)
}

// duplicate returns another descriptor of a listener. It stays non-blocking,
// which one that os.File tells would not.
func duplicate(l net.Listener) (fd int, err error) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a %T has no socket", l)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return -1, err
	}
	failed := raw.Control(func(its uintptr) { fd, err = unix.FcntlInt(its, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(failed, err)
}

// catchUp returns when what NATS had sent here before has been delivered.
func (s *Server) catchUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.next.collect)
	defer cancel()
	return s.bus.CatchUp(ctx)
}

// lend sends duplicates of clients' sockets ahead, while all goes on, and says
// which those are, by shard. What this saves is the most of the pause.
func (s *Server) lend(link *handover.Link) (ahead []map[poller.Token]bool, err error) {
	for _, sh := range s.shards {
		lent := make(map[poller.Token]bool)
		ahead = append(ahead, lent)
		for next, more := uint32(0), true; more; {
			var ids []poller.Token
			var fds []int
			if !s.on(sh, func() {
				ids, fds, next, err = sh.table.Lend(next, handover.MaxFDs)
				more = next < sh.table.Slots()
			}) {
				return nil, errCalledOff
			}
			if err == nil && len(fds) > 0 {
				sockets := handover.Sockets{Shard: sh.index, IDs: ids}
				err = link.Send(handover.KindSockets, sockets.Append(nil), fds...)
			}
			closeAll(fds)
			if err != nil {
				return nil, err
			}
			for _, id := range ids {
				lent[id] = true
			}
		}
	}
	if err := link.Send(handover.KindAhead, nil); err != nil {
		return nil, err
	}
	_, err = link.Expect(handover.KindBorrowed)
	return ahead, err
}

// on calls f on the loop of a shard, and waits for it, unless the loop has been stopped.
func (s *Server) on(sh *shard, f func()) bool {
	done := make(chan struct{})
	runs := sh.loop.Post(poller.Func(func() { defer close(done); f() }))
	if runs {
		<-done
	}
	return runs
}

// onEach calls f on the loop of each shard in turn, and waits for it.
func (s *Server) onEach(f func(*shard)) {
	for _, sh := range s.shards {
		s.on(sh, func() { f(sh) })
	}
}

// freeze has nothing be read of clients, or read again.
func (s *Server) freeze(frozen bool) {
	s.onEach(func(sh *shard) {
		if !frozen {
			sh.thawTokens()
			sh.table.Thaw()
			return
		}
		sh.table.Freeze()
		for _, p := range sh.polls.of {
			sh.hurryPoll(p)
		}
	})
}

// awaitQuiet waits until what clients have asked for is answered. Whose question
// takes longer stays here.
func (s *Server) awaitQuiet() {
	for end := time.Now().Add(s.next.quiet); time.Now().Before(end); time.Sleep(time.Millisecond) {
		busy := s.errands.awaited()
		s.onEach(func(sh *shard) { busy += sh.busy() })
		if busy == 0 {
			return
		}
	}
}

// pause holds up a shard's loop, on which nothing happens but what is asked of it here.
type pause struct {
	shard *shard
	ahead map[poller.Token]bool // whose sockets the new process has
	work  chan func()
	moved []poller.Token // what the new process was given
}

// do calls f on the loop's goroutine.
func (p *pause) do(f func()) {
	done := make(chan struct{})
	p.work <- func() { defer close(done); f() }
	<-done
}

func (s *Server) pauseAll(ahead []map[poller.Token]bool) (all []*pause) {
	for i, sh := range s.shards {
		p, held := &pause{shard: sh, ahead: ahead[i], work: make(chan func())}, make(chan struct{})
		if !sh.loop.Post(poller.Func(func() {
			close(held)
			for f := range p.work {
				f()
			}
		})) {
			continue // it is being stopped
		}
		<-held
		all = append(all, p)
	}
	return all
}

// carry hands over the clients. When it has sent the last message without error
// they are the other process's; up to then nothing has changed here but that
// nothing happens.
func (s *Server) carry(h *handing, ahead []map[poller.Token]bool) (err error) {
	link := h.link
	h.paused = time.Now()
	if h.loops = s.pauseAll(ahead); len(h.loops) < len(s.shards) {
		return errCalledOff
	}
	feeds := s.hub.Export()
	for i := range feeds {
		if err := link.Send(handover.KindFeed, handover.AppendFeed(nil, &feeds[i])); err != nil {
			return err
		}
	}
	send := func(r handover.Rights) error { return link.Send(handover.KindRights, r.Append(nil)) }
	numbers := rightsNumbers{known: make(map[*auth.Rights]uint64), send: send}
	for _, p := range h.loops {
		if p.do(func() { err = p.export(link, &numbers) }); err != nil {
			return err
		}
		h.done.Connections += len(p.moved)
	}
	if err := link.Send(handover.KindEnd, handover.AppendEnd(nil, h.done.Connections)); err != nil {
		return err
	}
	if _, err := link.Expect(handover.KindAdopted); err != nil {
		return err
	}
	return s.commit(link)
}

// commit is the moment from which on all is the other process's.
func (s *Server) commit(link *handover.Link) error {
	m := s.self()
	m.silent.Store(true) // the other speaks for the node from then on
	err := s.next.commit(link)
	if err != nil {
		m.silent.Store(false)
	}
	return err
}

// holdAdmin has nobody be let in to the admin listener, on which the other process
// accepts from the commit on, and those who are there come again for their next request.
func (s *Server) holdAdmin() error {
	s.admin.SetKeepAlivesEnabled(false)
	return s.adminLn.hold(s.next.carry)
}

func (s *Server) goOnAdmin() {
	s.admin.SetKeepAlivesEnabled(true)
	s.adminLn.goOn()
}

// export sends what the other process is to have of a shard.
func (p *pause) export(link *handover.Link, numbers *rightsNumbers) error {
	sh := p.shard
	var payload []byte
	var fds []int
	flush := func() error {
		if len(payload) == 0 {
			return nil
		}
		err := link.Send(handover.KindClients, payload, fds...)
		payload, fds = payload[:0], fds[:0]
		return err
	}
	for slot := range sh.table.Slots() {
		id := sh.table.ID(slot)
		c, fd, ok, err := sh.export(id, numbers)
		if !ok { // also where that failed: it is not among those who were moved
			sh.members.TakeBack(slot)
		}
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		p.moved = append(p.moved, id)
		if c.Ahead = p.ahead[id]; !c.Ahead {
			fds = append(fds, fd)
		}
		payload = c.Append(payload)
		if len(fds) == handover.MaxFDs || len(payload) > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// end forgets what the other process has, or takes it back.
func (p *pause) end(given bool) {
	sh := p.shard
	for _, id := range p.moved {
		if given {
			sh.abandon(id)
		} else {
			sh.members.TakeBack(id.Slot())
		}
	}
	if given {
		sh.table.StopAccepting()
	}
}
