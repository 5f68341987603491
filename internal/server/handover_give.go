package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// HandoverVariable names, in the environment, the file descriptor at which a
// process that is to take over finds the one before it.
const HandoverVariable = "_PUSHD_HANDOVER_FD" // no PUSHD_…, which are settings

const (
	prepareTime = 60 * time.Second
	quietTime   = 500 * time.Millisecond
	collectTime = 10 * time.Second
	carryTime   = 10 * time.Second
)

// batchBytes is about how many bytes of clients go into one message: the other
// process works at one while the next is made.
const batchBytes = 32 << 10

// succession is what a server knows of the process that takes over from it.
type succession struct {
	// Static.
	start func(theirs *os.File) (*os.Process, error) // starts it, with its end of the way as file descriptor 3
	done  chan struct{}                              // closed when it has the clients

	// How long each part may take before it is called off.
	prepare time.Duration // it starts, and opens NATS: clients notice nothing
	quiet   time.Duration // what clients have asked for is answered: they are not read from
	collect time.Duration // it subscribes on NATS: the same
	carry   time.Duration // clients change hands: nothing is read or sent

	mu sync.Mutex // held by who hands over

	// Guarded by mu.
	over bool // done is closed
}

func newSuccession() succession {
	path, err := os.Executable() // now: afterwards it would say what became of this very file, and the point is that there is another
	start := func(theirs *os.File) (*os.Process, error) {
		if err != nil {
			return nil, err
		}
		return startAgain(path, theirs)
	}
	return succession{start: start, done: make(chan struct{}), prepare: prepareTime, quiet: quietTime, collect: collectTime, carry: carryTime}
}

// startAgain runs a binary as this process was started.
func startAgain(path string, theirs *os.File) (*os.Process, error) {
	cmd := exec.Command(path, os.Args[1:]...)
	cmd.Env = append(os.Environ(), HandoverVariable+"=3")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd.Process, nil
}

// Upgraded is what became of a hot upgrade.
type Upgraded struct {
	PID         int           `json:"pid"`         // of the new process
	Connections int           `json:"connections"` // that it has
	Left        int           `json:"left"`        // that this one still has, and drains
	Unread      time.Duration `json:"unread_ns"`   // for how long nothing was read of clients
	Paused      time.Duration `json:"paused_ns"`   // for how long nothing was sent to them
}

// Upgrade has a new process, of the binary that is at this one's path now, take
// over listeners and clients; Run then drains what is left, and returns. With an
// error everything goes on here as if nothing had happened. It may be called from
// any goroutine while Run serves.
func (s *Server) Upgrade() (Upgraded, error) {
	next := &s.next
	if !next.mu.TryLock() {
		return Upgraded{}, errors.New("an upgrade is under way")
	}
	defer next.mu.Unlock()
	switch {
	case next.over:
		return Upgraded{}, errors.New("another process has taken over already")
	case s.stopping.Load() || s.draining.ordered():
		return Upgraded{}, errors.New("this node is being drained")
	case len(s.cfg.NATS) == 0:
		return Upgraded{}, errEmbedded
	}
	s.log.Info("hot upgrade: starting the new binary")
	u, err := s.handOver()
	if err != nil {
		s.log.Error("hot upgrade failed: this process goes on", "err", err)
		return u, err
	}
	s.log.Info("hot upgrade: handed over", "pid", u.PID, "connections", u.Connections, "left", u.Left, "unread", u.Unread, "paused", u.Paused)
	s.notify(fmt.Sprintf("MAINPID=%d", u.PID)) // before this process ends, which would be the service's end
	next.over = true
	close(next.done)
	return u, nil
}

// handOver starts the new process, and ends it again where something fails.
func (s *Server) handOver() (u Upgraded, err error) {
	link, theirs, err := handover.Pair()
	if err != nil {
		return u, err
	}
	defer link.Close()
	process, err := s.next.start(theirs)
	theirs.Close()
	if err != nil {
		return u, fmt.Errorf("starting the new binary: %w", err)
	}
	u.PID = process.Pid
	if err = s.handOverTo(link, &u); err != nil {
		// It may hang, and must never come to think that it has the clients.
		_ = process.Kill()
		state, _ := process.Wait()
		var said *handover.Failure
		if !errors.As(err, &said) && state != nil && state.Exited() {
			err = fmt.Errorf("the new process ended (%v), and its log says why: %w", state, err)
		}
		return u, err
	}
	return u, process.Release()
}

// handOverTo follows docs/UPGRADE.md.
func (s *Server) handOverTo(link *handover.Link, u *Upgraded) error {
	link.SetDeadline(time.Now().Add(s.next.prepare))
	if err := s.offer(link); err != nil {
		return err
	}
	defer s.freeze(false)
	ahead, err := s.lend(link)
	if err != nil {
		return err
	}
	frozen := time.Now()
	s.freeze(true)
	s.hub.Record()
	defer s.hub.Forget()
	defer func() { u.Unread = time.Since(frozen) }()
	s.awaitQuiet()
	link.SetDeadline(time.Now().Add(s.next.collect))
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
	// From now on all that comes goes to both; what came to this process alone has to have arrived.
	arrived, cancel := context.WithTimeout(context.Background(), s.next.collect)
	defer cancel()
	if err := s.bus.CatchUp(arrived); err != nil {
		return err
	}
	link.SetDeadline(time.Now().Add(s.next.carry))
	return s.carry(link, ahead, u)
}

// offer waits until the new process has all but the clients.
func (s *Server) offer(link *handover.Link) error {
	payload, err := link.Expect(handover.KindHello)
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
	admin, err := duplicate(s.adminLn)
	if err != nil {
		return fmt.Errorf("the admin listener: %w", err)
	}
	defer unix.Close(admin)
	var fds []int
	for _, sh := range s.shards {
		fds = append(fds, sh.listener.FD())
	}
	offer := handover.Offer{NodeID: s.node, NodeName: s.name, Listen: s.cfg.Listen, Admin: s.cfg.Admin}
	if err := link.Send(handover.KindOffer, offer.Append(nil), append(fds, admin)...); err != nil {
		return err
	}
	_, err = link.Expect(handover.KindOpen)
	return err
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
				return nil, errStopped
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
		busy := 0
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
func (s *Server) carry(link *handover.Link, ahead []map[poller.Token]bool, u *Upgraded) (err error) {
	paused := time.Now()
	all := s.pauseAll(ahead)
	defer func() {
		u.Paused = time.Since(paused) // the new process runs, or this one does next
		for _, p := range all {
			p.do(func() { p.end(err == nil) })
			close(p.work)
		}
		u.Left = s.quota.Open()
	}()
	if len(all) < len(s.shards) {
		return errStopped
	}
	feeds := s.hub.Export()
	for i := range feeds {
		if err := link.Send(handover.KindFeed, handover.AppendFeed(nil, &feeds[i])); err != nil {
			return err
		}
	}
	send := func(r handover.Rights) error { return link.Send(handover.KindRights, r.Append(nil)) }
	numbers := rightsNumbers{known: make(map[*auth.Rights]uint64), send: send}
	for _, p := range all {
		if p.do(func() { err = p.export(link, &numbers) }); err != nil {
			return err
		}
		u.Connections += len(p.moved)
	}
	if err := link.Send(handover.KindEnd, handover.AppendEnd(nil, u.Connections)); err != nil {
		return err
	}
	if _, err := link.Expect(handover.KindAdopted); err != nil {
		return err
	}
	return link.Send(handover.KindCommit, nil)
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
		if err != nil {
			return err
		}
		if !ok {
			sh.members.TakeBack(slot)
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

var errStopped = errors.New("this node is being stopped")

// retire ends what was not handed over, as a drain does, within the window.
func (s *Server) retire(ctx context.Context) {
	s.log.Info("another process serves: draining what is left here", "connections", s.quota.Open(), "window", s.cfg.DrainWindow)
	end, cancel := context.WithTimeout(ctx, s.cfg.DrainWindow+s.cfg.ShutdownTimeout)
	defer cancel()
	s.orderDrain(0, s.cfg.DrainWindow)
	var answers sync.WaitGroup
	defer answers.Wait()
	answers.Go(func() { _ = s.admin.Shutdown(end) }) // whoever asked for the upgrade is being answered
	s.awaitClosed(end)
}

// serveUpgrade is POST /upgrade: it answers when the new process serves, or with
// the reason why it does not.
func (s *Server) serveUpgrade(w http.ResponseWriter, r *http.Request) {
	u, err := s.Upgrade()
	if err != nil {
		refuse(w, http.StatusConflict, &wire.Error{Code: wire.Unavailable, Message: "not upgraded, and nothing has changed: " + err.Error()})
		return
	}
	s.acted(r, actUpgrade, "pid", u.PID, "connections", u.Connections)
	writeIndented(w, http.StatusOK, u)
}
