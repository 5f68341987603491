package main

import (
	"log/slog"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/poller"
)

// shard is one loop with its connections. It is the poller.Handler of the one
// and the conn.Handler of the others.
type shard struct {
	// Static.
	loop     *poller.Loop
	table    *conn.Table
	deflater *conn.Deflater // nil: compression is declined

	// Loop-only.
	frame    []byte // the reply that is being made
	deflates map[poller.Token]bool
}

// keptFrame is the largest frame whose memory is kept for the next.
const keptFrame = 1 << 20

func newShard(l *poller.Listener, o options, log *slog.Logger) (*shard, error) {
	sh := &shard{deflates: make(map[poller.Token]bool)}
	var err error
	if o.deflate {
		if sh.deflater, err = conn.NewDeflater(1); err != nil {
			return nil, err
		}
	}
	if sh.loop, err = poller.New(poller.Config{Backend: o.poller}); err != nil {
		return nil, err
	}
	if sh.table, err = conn.NewTable(conn.Config{MaxMessage: int(o.maxMessage), Deflate: o.deflate, Log: log}, sh.loop, l, sh); err != nil {
		sh.loop.Close()
		return nil, err
	}
	return sh, nil
}

func (sh *shard) run() error { return sh.loop.Run(sh) }

// stop ends run, and all connections.
func (sh *shard) stop() {
	sh.loop.Post(poller.Func(sh.table.Shutdown))
	sh.loop.Stop()
}

// drop is stop for a shard that has not run.
func (sh *shard) drop() {
	sh.table.Shutdown()
	sh.loop.Close()
}

// Ready, Tick and Turn implement poller.Handler.
func (sh *shard) Ready(id poller.Token, e poller.Events) { sh.table.Ready(id, e) }

func (sh *shard) Tick(now uint32) { sh.table.Tick(now) }

func (sh *shard) Turn() (more bool) {
	sh.table.Turn()
	return false
}

// Upgrade implements conn.Handler: any path will do.
func (sh *shard) Upgrade(id poller.Token, r *conn.Request) *conn.Refusal {
	if r.Deflate {
		sh.deflates[id] = true
	}
	return nil
}

// Get implements conn.Handler. No path is claimed, so it is not called.
func (sh *shard) Get(poller.Token, *conn.Request) *conn.Refusal { return nil }

// Message implements conn.Handler.
func (sh *shard) Message(id poller.Token, op ws.OpCode, payload []byte) {
	if sh.deflates[id] {
		sh.frame = sh.deflater.AppendFrame(sh.frame[:0], op, payload)
	} else {
		sh.frame = conn.AppendFrame(sh.frame[:0], op, payload)
	}
	sh.table.Reply(id, sh.frame)
	if cap(sh.frame) > keptFrame {
		sh.frame = nil
	}
}

// Drained implements conn.Handler. Replies wait in the table, not here.
func (sh *shard) Drained(poller.Token) {}

// Closed implements conn.Handler.
func (sh *shard) Closed(id poller.Token, _ conn.Reason) { delete(sh.deflates, id) }

const upgradeRequired = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Connection: close, Upgrade\r\nContent-Type: text/plain\r\nContent-Length: 28\r\n\r\nThis is a WebSocket server.\n"

// NotUpgrade implements conn.Handler.
func (sh *shard) NotUpgrade(fd int, _ []byte, _ conn.Handed) {
	_, _ = unix.Write(fd, []byte(upgradeRequired)) // best effort: the socket is new, so there is room
	unix.Close(fd)
}
