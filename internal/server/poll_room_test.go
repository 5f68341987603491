package server

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/config"
)

// Many polls get one large message, and read it: it is there once, so all get it at
// once, whatever it comes to for all of them. Who had to wait would miss it here.
func TestPollsShareAMessage(t *testing.T) {
	const polls = 100
	r := start(t, func(c *config.Config) { c.PollMemory, c.RingMessages, c.MaxMessage, c.Shards = 1<<20, 1, 128<<10, 1 })
	data := []string{fmt.Sprintf("%q", "0"+strings.Repeat("x", 60<<10)), fmt.Sprintf("%q", "1"+strings.Repeat("x", 60<<10))}
	var all []*pollClient
	for range polls {
		p := r.poller("chat.a")
		p.wants("wait=0")
		all = append(all, p)
	}
	var polling sync.WaitGroup
	came := make(chan struct{}, len(data)*polls)
	defer polling.Wait()
	for _, p := range all {
		polling.Go(func() {
			for _, want := range data {
				a, err := p.try("wait=50")
				if got := a.words(); err != nil || a.status != 200 || !slices.Equal(got, []string{"chat.a " + want}) {
					t.Errorf("%d %v: %.100q", a.status, err, got)
					return
				}
				came <- struct{}{}
			}
		})
	}
	r.waitPolls(polls)
	for _, d := range data {
		r.http("POST", "/publish/chat.a", "", d)
		select {
		case <-came:
		case <-time.After(patience):
			t.Fatal("nobody got it")
		}
	}
}

// The same for many that read nothing: what they cost is bounded, and who reads gets it.
func TestPollsShareAMessageUnread(t *testing.T) {
	const most, hostile = 1 << 20, 100
	r := start(t, func(c *config.Config) { c.PollMemory, c.MaxMessage, c.Shards = most, 128<<10, 1 })
	r.narrow()
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	for range hostile {
		c, err := small.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, r.poller("chat.a").request("wait=60")); err != nil {
			t.Fatal(err)
		}
	}
	p := r.poller("chat.a")
	p.wants("wait=0")
	waits := p.waiting("wait=60")
	r.waitPolls(hostile + 1)
	data := fmt.Sprintf("%q", strings.Repeat("x", 60<<10))
	publish(t, r.backend(), "push.chat.a", data)
	got := <-waits
	for ; got.status == 503; got, _ = p.try("wait=60") { // it waited for room for long enough
		time.Sleep(10 * time.Millisecond)
	}
	if !slices.Equal(got.words(), []string{"chat.a " + data}) {
		t.Errorf("who reads got %d %.100q", got.status, got.words())
	}
	eventually(t, "all had their turn", func() bool {
		if n := r.answering.Kept(); n > most+most/4 { // buffers are somewhat larger than what is in them
			t.Fatalf("%d bytes are kept, of at most %d", n, most)
		}
		return r.memberCounts().Subscriptions == 0
	})
	if r.metric(`pushd_connections_closed_total{reason="answer_full"}`) == "0" && r.metric(`pushd_polls_total{result="refused"}`) == "0" {
		t.Error("nobody was cut off or refused, so there was always room")
	}
}

// Polls that have something, and wait for whether they may hear another topic, do not
// keep the room of others for as long as that takes.
func TestPollsThatLackATopicGiveRoom(t *testing.T) {
	const most, polls = 1 << 20, 40
	r := secure(t, func(c *config.Config) {
		c.PollMemory, c.MaxMessage, c.Shards = most, 128<<10, 1
		c.Authorize, c.AuthorizeTimeout = "auth.may", 30*time.Second
	})
	nc := r.backend()
	if _, err := nc.SubscribeSync("auth.may"); err != nil || nc.Flush() != nil { // which answers nothing
		t.Fatal(err)
	}
	token := tokenFor(t, "alice", may{subscribe: "chat.*", publish: "chat.*"}, time.Hour)
	data := fmt.Sprintf("%q", strings.Repeat("x", 60<<10))
	var answered atomic.Int64
	var polling sync.WaitGroup
	var all []*pollClient
	for range polls {
		p := r.poller("chat.a", "silent.a")
		p.lines = "Authorization: Bearer " + token + "\r\n"
		if err := p.open(); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
		polling.Go(func() {
			a, err := p.try("wait=60")
			if err != nil {
				return // the test has ended
			}
			if got := a.words(); a.status != 200 || !slices.Equal(got, []string{"chat.a " + data}) {
				t.Errorf("%d: %.100q", a.status, got)
			}
			answered.Add(1)
		})
	}
	r.waitPolls(polls)
	publish(t, nc, "push.chat.a", data)
	eventually(t, "those without room are answered", func() bool {
		return answered.Load() >= polls-most/2/(60<<10)-1 && r.answering.Kept() <= most/2
	})
	if answered.Load() == polls {
		t.Error("nobody waits, though there is room")
	}
	for _, p := range all {
		p.conn.Close()
	}
	polling.Wait()
}
