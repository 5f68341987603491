// Package poller says which sockets of one shard are ready. It is the only place in pushd that knows epoll.
//
// A [Loop] is one goroutine with its own epoll set: it reports ready sockets, time ticks and the ends of turns to one
// [Handler], and runs what other goroutines hand it through [Loop.Post], its one door. Everything a shard owns is
// touched by that goroutine alone, so nothing on the way of a message takes a lock. What may block goes to a [Pool] and
// comes back through Post. A [Listener] accepts non-blocking sockets as bare file descriptors, never as net.Conn.
//
// The package knows no WebSocket, no topic and no policy: whom to shed when descriptors run out is the caller's affair.
package poller
