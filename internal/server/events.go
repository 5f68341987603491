package server

import (
	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

func claimsPath(path string) bool { return path == pollPath }

// Get implements conn.Handler.
func (sh *shard) Get(id poller.Token, r *conn.Request) *conn.Refusal {
	if refused := sh.server.checkOrigin(r.Origin, r.Host); refused != nil {
		return refusal(0, refused)
	}
	if r.Path == pollPath {
		return sh.getPoll(id, r)
	}
	return refusal(404, &wire.Error{Code: wire.BadRequest, Message: "there is nothing at " + r.Path})
}

func corsHeader(origin string) string {
	if origin == "" {
		return "Vary: Origin\r\n"
	}
	return "Vary: Origin\r\nAccess-Control-Allow-Origin: " + origin + "\r\nAccess-Control-Expose-Headers: Retry-After\r\n"
}
