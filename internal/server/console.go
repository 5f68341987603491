package server

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/console"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// The console is a page of the admin listener. What it shows comes over a
// WebSocket of the same listener, whose socket goes to a shard as any client's
// does, but with all rights: the guard has let its operator in.

// addConsole serves the page. It holds nothing of this server, so it is before
// the guard: the page itself asks for the token.
func addConsole(mux *http.ServeMux) {
	mux.Handle("GET "+console.Path, console.Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, console.Path, http.StatusFound)
	})
}

// serveOperatorSocket hands a WebSocket of the admin listener to a shard.
func (s *Server) serveOperatorSocket(w http.ResponseWriter, r *http.Request) {
	head := headOf(r)
	if !conn.WantsUpgrade(head) {
		refuseNoUpgrade(w)
		return
	}
	hijacked, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, 0, &wire.Error{Code: wire.Internal, Message: err.Error()})
		return
	}
	defer hijacked.Close() // where it has not come to that
	socket, ok := hijacked.(*net.TCPConn)
	behind := make([]byte, buffered.Reader.Buffered())
	if _, err = io.ReadFull(buffered, behind); ok && err == nil {
		err = s.toShard(socket, append(head, behind...), conn.Handed{Operator: true}, func() { socket.Close() })
	}
	if err != nil {
		s.log.Warn("an operator's WebSocket failed", "err", err)
	}
}

// admitOperator is Upgrade for an operator: nobody is asked for a token, and a
// drain, which is to be watched, does not concern it.
func (sh *shard) admitOperator(id poller.Token, r *conn.Request) *conn.Refusal {
	open, err := readOpening(r)
	if err != nil {
		return refusal(0, err)
	}
	open.shape = shapeOfSocket(open.format, r.Deflate)
	*sh.client(id.Slot()) = client{shape: open.shape, unlimited: true, standing: operator}
	return sh.beginNow(id, &open)
}

// isOperator reports whether the connection in a slot is an operator's.
func (sh *shard) isOperator(slot uint32) bool { return sh.client(slot).standing&operator != 0 }

// adminToken is what a request shows at the admin listener. A browser can set
// no header of a WebSocket but Sec-WebSocket-Protocol, where an entry is made of
// fewer characters than a token may have: it has the token in base64url.
func adminToken(r *http.Request) string {
	if t := bearer(r.Header.Get("Authorization")); t != "" {
		return t
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for entry := range strings.SplitSeq(line, ",") {
			text, ok := strings.CutPrefix(strings.Trim(entry, " \t"), tokenEntry)
			if !ok {
				continue
			}
			if token, err := base64.RawURLEncoding.DecodeString(text); err == nil {
				return string(token)
			}
		}
	}
	return ""
}
