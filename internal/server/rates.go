package server

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// maxRateStrikes is how many commands beyond the rate end a connection (1008),
// unless it has paused in between until all of them were forgiven: it takes no
// notice of what it is told.
const maxRateStrikes = 128

// topicsOfCommand is how many topics a command has for nothing, and for each
// further command that it counts as.
const topicsOfCommand = 16

// paces are the rates of each connection. They are static.
type paces struct {
	began             time.Time
	commands, publish gate.Pace
}

func newPaces(cfg *config.Config) paces {
	return paces{
		began:    time.Now(),
		commands: gate.NewPace(cfg.MaxCommandRate, gate.Burst),
		publish:  gate.NewPace(cfg.MaxPublishRate, gate.Burst),
	}
}

// debt is what a connection has to wait for until it may go on at its full burst.
type debt struct {
	commands, publish int64 // of paces
	tooFast           uint8 // commands beyond the rate since nothing was owed
}

// debts has those of a shard's connections, by their slots. Nearly all owe
// nothing at a time, so it lies beside them.
type debts map[uint32]debt

// forgive forgets those who owe nothing any more.
func (d debts) forgive(p *paces) {
	if len(d) == 0 {
		return
	}
	now := gate.Clock(p.began)
	for slot, owed := range d {
		if p.commands.Recovered(owed.commands, now) && p.publish.Recovered(owed.publish, now) {
			delete(d, slot)
		}
	}
}

// knowDebtor forgets what the client owes that had the slot before. Of the end of
// a connection between two requests nobody is told.
func (sh *shard) knowDebtor(id poller.Token, r *conn.Request) {
	if !r.Again {
		delete(sh.debts, id.Slot())
	}
}

// commandTooFast counts a command, well formed or not, and refuses it if it is
// one too many.
func (sh *shard) commandTooFast(id poller.Token, c *client, cmd *wire.Command) bool {
	if c.unlimited {
		return false
	}
	p := &sh.server.paces
	now := gate.Clock(p.began)
	owed := sh.debts[id.Slot()]
	defer func() { sh.debts[id.Slot()] = owed }()
	if p.commands.Recovered(owed.commands, now) {
		owed.tooFast = 0
	}
	wait := p.commands.Take(&owed.commands, now)
	if wait == 0 {
		if extra := len(cmd.Topics) / topicsOfCommand; extra > 0 {
			p.commands.Charge(&owed.commands, now, extra)
		}
		return false
	}
	sh.replyRateLimited(id, cmd.ID, fmt.Sprintf("more than %d commands a second (--max-command-rate)", sh.server.cfg.MaxCommandRate), wait)
	if owed.tooFast++; owed.tooFast >= maxRateStrikes {
		sh.table.Close(id, conn.ReasonRate)
	}
	return true
}

// publishTooFast counts a publication, and refuses it if it is one too many.
func (sh *shard) publishTooFast(id poller.Token, c *client, cmd wire.ID) bool {
	if c.unlimited {
		return false
	}
	p := &sh.server.paces
	owed := sh.debts[id.Slot()]
	wait := p.publish.Take(&owed.publish, gate.Clock(p.began))
	sh.debts[id.Slot()] = owed
	if wait > 0 {
		sh.replyRateLimited(id, cmd, tooManyPublications(sh.server.cfg.MaxPublishRate), wait)
	}
	return wait > 0
}

func (sh *shard) replyRateLimited(id poller.Token, cmd wire.ID, message string, wait time.Duration) {
	sh.server.metrics.refusals.WithLabelValues(string(wire.RateLimited)).Inc()
	sh.reply(id, wire.AppendRateLimited(sh.json[:0], cmd, message, wait))
}

func tooManyPublications(most int) string {
	return fmt.Sprintf("more than %d messages a second (--max-publish-rate)", most)
}

// requestedTooFast counts a request to publish, or for history, and answers it
// if it is one too many from its client's address.
func (s *Server) requestedTooFast(w http.ResponseWriter, r *http.Request) bool {
	who := callerFrom(r)
	if who.unlimited {
		return false
	}
	wait := s.gate.Publish(who.address)
	if wait == 0 {
		return false
	}
	w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	writeJSON(w, http.StatusTooManyRequests, wire.AppendRefusal(nil, wire.RateLimited, fmt.Sprintf("more than %d requests a second (--max-publish-rate)", s.cfg.MaxPublishRate)))
	return true
}

// paceLines counts lines that were published, and waits until their client may
// go on: a stream is slowed down, and none of it refused. It answers false where
// the request or the server has ended.
func (s *Server) paceLines(r *http.Request, lines int) bool {
	who := callerFrom(r)
	if who.unlimited {
		return true
	}
	for wait := s.gate.Published(who.address, lines); wait > 0; wait -= lookAround {
		select {
		case <-time.After(min(wait, lookAround)):
		case <-r.Context().Done():
			return false
		}
		if s.stopping.Load() {
			return false
		}
	}
	return true
}

// lookAround is how often one who waits looks whether that still makes sense.
const lookAround = 100 * time.Millisecond
