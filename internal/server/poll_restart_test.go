package server

import (
	"fmt"
	"syscall"
	"testing"
)

// A client that polls goes on after its node was killed: with history it misses
// nothing, without it is told.
func TestPollAcrossRestart(t *testing.T) {
	n := startNode(t, crashing(t))
	p, plain := n.poller("whole.x"), n.poller("chat.a")
	p.wants("wait=0")
	plain.wants("wait=0")
	number := 0
	for range 2 {
		for range 30 {
			number++
			n.store("whole.x", fmt.Sprint(number))
		}
		n.end(t, syscall.SIGKILL)
		n.start(t)
		p.address, plain.address = n.Addr(), n.Addr()
		p.close()
		plain.close()
		var want []string
		for i := number - 29; i <= number; i++ {
			want = append(want, fmt.Sprintf("whole.x %d", i))
		}
		p.gathers(want...)
		plain.gathers("gap chat.a restarted")
	}
	p.wants("wait=0")
	plain.wants("wait=0")
}
