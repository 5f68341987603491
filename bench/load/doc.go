// Package load puts load on a WebSocket server that pushes messages, and
// measures what comes out.
//
// The clients are raw non-blocking sockets on epoll loops in worker processes,
// this program started again, so a main that uses the package begins with
// [WorkerMain]. [Run] starts the workers, and the server where it is told how,
// plays a scenario, and returns a [Result]: what arrived, how late, and what
// the server spent on it.
//
// Publisher and clients share a host: a message carries the time at which it was
// sent, by the clock that all its processes have in common.
package load
