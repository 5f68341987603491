package server

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/config"
)

// narrow has the kernel take little for clients that do not read, on the side of
// the server: sockets inherit that from their listener.
func (r *running) narrow() {
	r.t.Helper()
	found := 0
	for fd := 3; fd < 1<<12; fd++ {
		listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil || listens == 0 {
			continue
		}
		name, err := unix.Getsockname(fd)
		if at, ok := name.(*unix.SockaddrInet4); err != nil || !ok || !strings.HasSuffix(r.Addr(), fmt.Sprint(":", at.Port)) {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10); err != nil {
			r.t.Fatal(err)
		}
		found++
	}
	if found == 0 {
		r.t.Fatal("the listener was not found")
	}
}

// A thousand clients poll for as much as an answer has, and read none of it. What
// they cost is bounded over all, and who reads still gets everything.
func TestUnreadPollsAreBounded(t *testing.T) {
	const most, hostile, messages = 16 << 20, 1000, 30
	r := start(t, keeping("orders"), func(c *config.Config) { c.PollMemory = most })
	r.narrow()
	begin := r.poller("orders.eu")
	begin.wants("wait=0")
	want := make([]string, messages)
	for i := range want {
		data := fmt.Sprintf(`"%d%s"`, i, strings.Repeat("x", 4000))
		r.store("orders.eu", data)
		want[i] = "orders.eu " + data
	}
	everything := func(transport string) {
		t.Helper()
		p := r.poller("orders.eu")
		defer p.close()
		p.cursor = begin.cursor
		if transport == "close" {
			p.lines = "Connection: close\r\n"
		}
		var got []string
		for len(got) < messages {
			a := p.poll("")
			if len(a.Messages) == 0 {
				break
			}
			got = append(got, a.words()...)
		}
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Fatalf("a client that reads got %d messages, want %d", len(got), messages)
		}
	}
	everything("keep-alive")
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	for i := range hostile {
		c, err := small.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, begin.request("")); err != nil {
			t.Fatal(err)
		}
		if i == hostile/2 {
			everything("keep-alive")
			everything("close")
		}
		if n := r.answering.Kept(); n > most+most/4 { // buffers are somewhat larger than what is in them
			t.Fatalf("%d bytes are kept, of at most %d", n, most)
		}
	}
	everything("keep-alive")
	everything("close")
	if r.metric(`pushd_connections_closed_total{reason="answer_full"}`) == "0" {
		t.Error("nobody was cut off, so there was always room")
	}
}
