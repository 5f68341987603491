package server

import (
	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// Get implements conn.Handler.
func (sh *shard) Get(_ poller.Token, r *conn.Request) *conn.Refusal {
	return refusal(404, &wire.Error{Code: wire.BadRequest, Message: "there is nothing at " + r.Path})
}
