package server

import (
	"net/http"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/wire"
)

// serveDrain begins a drain: ?grace=10&window=60, in seconds; without them as the
// settings say. One that is under way goes on as it was ordered.
func (s *Server) serveDrain(w http.ResponseWriter, r *http.Request) {
	grace, err1 := querySeconds(r, "grace", s.cfg.DrainGrace)
	window, err2 := querySeconds(r, "window", s.cfg.DrainWindow)
	for _, err := range []error{err1, err2} {
		if err != nil {
			refuse(w, 0, &wire.Error{Code: wire.BadRequest, Message: err.Error()})
			return
		}
	}
	ordered := s.orderDrain(grace, window)
	if s.next.gone.Load() { // it is the other process that is to be drained
		refuse(w, 0, errUpgraded)
		return
	}
	if ordered {
		s.acted(r, actDrain, "grace", grace, "window", window, "connections", s.quota.Open())
	}
	writeIndented(w, http.StatusAccepted, s.drainStatus())
}

// querySeconds reads a duration in whole seconds, of at most an hour.
func querySeconds(r *http.Request, name string, byDefault time.Duration) (time.Duration, error) {
	if r.URL.Query().Get(name) == "" {
		return byDefault, nil
	}
	n, err := queryInt(r, name, 0, 0, int(config.MaxDrain/time.Second))
	return time.Duration(n) * time.Second, err
}

// serveUndrain takes a drain back while its grace lasts. Afterwards clients
// have been told to leave.
func (s *Server) serveUndrain(w http.ResponseWriter, r *http.Request) {
	if s.next.gone.Load() {
		refuse(w, 0, errUpgraded)
		return
	}
	was, late := s.takeBackDrain()
	if late {
		refuse(w, http.StatusConflict, errDrainLate)
		return
	}
	if was {
		s.acted(r, actUndrain)
	}
	writeIndented(w, http.StatusOK, s.drainStatus())
}

var errDrainLate = &wire.Error{Code: wire.BadRequest, Message: "the grace has passed and clients have been told to leave: let the drain end, and restart pushd"}

func (s *Server) serveDrainStatus(w http.ResponseWriter, _ *http.Request) {
	writeIndented(w, http.StatusOK, s.drainStatus())
}
