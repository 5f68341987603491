package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/internal/wire"
)

// HandoverVariable names, in the environment, the file descriptor at which a
// process that is to take over finds the one before it.
const HandoverVariable = "_PUSHD_HANDOVER_FD" // no PUSHD_…, which are settings

const (
	prepareTime = 60 * time.Second
	quietTime   = 500 * time.Millisecond
	collectTime = 10 * time.Second
	carryTime   = 2 * time.Second       // what comes of namespaces without history is kept meanwhile as far as rings go
	carryEach   = 50 * time.Microsecond // beside carryTime for each connection: many times what it takes
)

// succession is what a server knows of the process that takes over from it.
type succession struct {
	// Static.
	start func(theirs *os.File) (*os.Process, error) // starts it, with its end of the way as file descriptor 3
	pid   int                                        // of this process
	done  chan struct{}                              // closed when it has the clients

	ending    chan struct{}  // closed when this process ends
	reopening sync.WaitGroup // what opens the embedded NATS again until then

	// How long each part may take before it is called off.
	prepare time.Duration // it starts, and opens NATS: clients notice nothing
	quiet   time.Duration // what clients have asked for is answered: they are not read from
	collect time.Duration // it subscribes on NATS: the same
	carry   time.Duration // clients change hands: nothing is read or sent

	mu sync.Mutex // held by who hands over

	// Guarded by mu.
	over bool // done is closed

	gone atomic.Bool // the clients are the other process's: set before that is told

	calling sync.Mutex

	// Guarded by calling.
	link   *handover.Link // of the upgrade that is under way
	off    bool           // that is called off
	closed bool           // and so is every other
}

func newSuccession() succession {
	path, err := calledAs(os.Args[0]) // now: afterwards another file may be there, and that is the point
	start := func(theirs *os.File) (*os.Process, error) {
		if err != nil {
			return nil, err
		}
		return startAgain(path, theirs)
	}
	return succession{start: start, pid: os.Getpid(), done: make(chan struct{}), ending: make(chan struct{}), prepare: prepareTime, quiet: quietTime, collect: collectTime, carry: carryTime}
}

// calledAs is the path by which this process was started. Links in it stay what they
// are: the next version may be there because one of them leads elsewhere by then.
func calledAs(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return self, nil // who started it gave it another name
	}
	if path, err = filepath.Abs(path); err != nil {
		return self, nil
	}
	if called, err := os.Stat(path); err == nil {
		if running, err := os.Stat(self); err == nil && os.SameFile(called, running) {
			return path, nil
		}
	}
	return self, nil
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

// errIsInit is for containers: they end with their first process.
var errIsInit = errors.New("pushd is process 1, with which its container ends: start a container of the new version, and stop this one (a rolling restart), which drains it")

var errCalledOff = errors.New("this node is being drained or stopped")

// begin is called with the link of an upgrade, and with nil at its end.
func (n *succession) begin(link *handover.Link) {
	n.calling.Lock()
	defer n.calling.Unlock()
	n.link, n.off = link, n.closed
}

// allow gives what comes next so much time.
func (n *succession) allow(link *handover.Link, d time.Duration) {
	n.calling.Lock()
	defer n.calling.Unlock()
	if !n.off {
		link.SetDeadline(time.Now().Add(d))
	}
}

// callOff has an upgrade that is under way fail, unless it is done.
func (n *succession) callOff() {
	n.calling.Lock()
	defer n.calling.Unlock()
	if n.off = true; n.link != nil {
		n.link.SetDeadline(time.Unix(1, 0))
	}
}

func (n *succession) calledOff() bool {
	n.calling.Lock()
	defer n.calling.Unlock()
	return n.off
}

// commit tells the other process that all is its own, or fails.
func (n *succession) commit(link *handover.Link) error {
	n.calling.Lock()
	defer n.calling.Unlock()
	if n.off {
		return errCalledOff
	}
	n.gone.Store(true)
	err := link.Send(handover.KindCommit, nil)
	if err != nil {
		n.gone.Store(false)
	}
	return err
}

// end reports whether another process has taken over. None will from then on. It is
// called once, and returns when nothing goes on for an upgrade any more.
func (n *succession) end() (over bool) {
	n.calling.Lock()
	n.closed = true
	n.calling.Unlock()
	n.callOff()
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.ending)
	n.reopening.Wait()
	return n.over
}

// Upgraded is what became of a hot upgrade.
type Upgraded struct {
	PID         int           `json:"pid"`         // of the new process
	Version     string        `json:"version"`     // of its binary
	Connections int           `json:"connections"` // that it has
	Left        int           `json:"left"`        // that this one still has, and drains
	Unread      time.Duration `json:"unread_ns"`   // for how long nothing was read of clients
	Paused      time.Duration `json:"paused_ns"`   // for how long nothing was sent to them
}

// Upgrade has a new process, of the binary that is at this one's path now, take
// over listeners and clients; Run then drains what is left, and returns. With an
// error, which is logged, everything goes on here as if nothing had happened. It may
// be called from any goroutine while Run serves.
func (s *Server) Upgrade() (u Upgraded, err error) {
	defer func() {
		if err != nil {
			s.log.Error("hot upgrade failed: this process goes on", "err", err)
		}
	}()
	next := &s.next
	if !next.mu.TryLock() {
		return u, errors.New("an upgrade is under way")
	}
	defer next.mu.Unlock()
	switch {
	case next.over:
		return u, errors.New("another process has taken over already")
	case next.pid == 1:
		return u, errIsInit
	case !s.bus.Serves():
		return u, errStoreAway
	case embeddedStore(&s.cfg) == config.MemoryStore:
		return u, errKeptInMemory
	}
	s.log.Info("hot upgrade: starting the new binary")
	if u, err = s.handOver(); err != nil {
		return u, err
	}
	s.log.Info("hot upgrade: handed over", "pid", u.PID, "version", u.Version, "connections", u.Connections, "left", u.Left, "unread", u.Unread, "paused", u.Paused)
	s.notify(fmt.Sprintf("MAINPID=%d", u.PID)) // before this process ends, which would be the service's end
	next.over = true
	close(next.done)
	return u, nil
}

// handing is an upgrade that is under way.
type handing struct {
	link    *handover.Link
	process *os.Process
	done    Upgraded
	frozen  time.Time // since when nothing is read of clients; zero: it is
	paused  time.Time // since when loops are held up; zero: they are not
	loops   []*pause
}

// handOver starts the new process, and ends it again where something fails.
func (s *Server) handOver() (Upgraded, error) {
	link, theirs, err := handover.Pair()
	if err != nil {
		return Upgraded{}, err
	}
	defer link.Close()
	s.next.begin(link)
	defer s.next.begin(nil)
	if s.draining.ordered() || s.next.calledOff() {
		theirs.Close()
		return Upgraded{}, errCalledOff
	}
	process, err := s.next.start(theirs)
	theirs.Close()
	if err != nil {
		return Upgraded{}, fmt.Errorf("starting the new binary: %w", err)
	}
	h := &handing{link: link, process: process, done: Upgraded{PID: process.Pid}}
	if err = s.handOverTo(h); err != nil {
		err = s.endNew(h, err)
	}
	s.goOn(h, err == nil)
	if err == nil {
		_ = process.Release() // it is nobody's child from now on, whatever this says
	}
	return h.done, err
}

// farewellTime bounds how long the new process is told why it is ended.
const farewellTime = 100 * time.Millisecond

// endNew ends the new process, and returns when it is no more: it may hang, and must
// never come to think that it has the clients. Before, it is told: the end of the link
// alone would mean that this process has died, and where a script has started the
// binary beside itself, it is the script that is killed here.
func (s *Server) endNew(h *handing, why error) error {
	calledOff := s.next.calledOff()
	s.next.begin(nil) // nobody else sets the link's deadline from now on
	h.link.SetDeadline(time.Now().Add(farewellTime))
	_ = h.link.Send(handover.KindFailed, []byte(why.Error()))
	_ = h.process.Kill()
	state, _ := h.process.Wait()
	broken := errors.Is(why, io.EOF) || errors.Is(why, unix.ECONNRESET) || errors.Is(why, unix.EPIPE)
	switch {
	case calledOff:
		return errCalledOff
	case broken && state != nil && state.Exited():
		return fmt.Errorf("the new process ended (%v), and its log says why: %w", state, why)
	}
	return why
}

// answerTimeAfter bounds how long whoever is being answered on the admin listener
// keeps a process from its end.
const answerTimeAfter = 10 * time.Second

// retire ends what was not handed over, as a drain does, within the window.
func (s *Server) retire(ctx context.Context) {
	s.retireMember()
	window := s.cfg.DrainWindow
	if embeddedStore(&s.cfg) != "" {
		window = 0 // NATS went with the others: nothing comes to these any more
	}
	s.log.Info("another process serves: draining what is left here", "connections", s.quota.Open(), "window", window)
	end, cancel := context.WithTimeout(ctx, window+drainSlack(window))
	defer cancel()
	s.draining.mu.Lock()
	s.beginDrain(0, window)
	s.draining.mu.Unlock()
	var answers sync.WaitGroup
	defer answers.Wait()
	answers.Go(func() { // whoever asked for the upgrade is being answered, also where this process is to stop now
		ctx, cancel := context.WithTimeout(context.Background(), answerTimeAfter)
		defer cancel()
		s.closeAdmin(ctx)
	})
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
	s.acted(r, actUpgrade, "pid", u.PID, "version", u.Version, "connections", u.Connections)
	w.Header().Set("Connection", "close") // the next request is the other process's to answer
	writeIndented(w, http.StatusOK, u)
}
