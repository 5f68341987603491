package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/poller"
)

// Who could not show a token because nothing was read has as long afterwards, and
// a token that ended meanwhile can be renewed.
func TestFrozenTokens(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.AuthTimeout = 500 * time.Millisecond })
	s := r.dial("")
	s.want("welcome")
	ending := r.signedIn(tokenFor(t, "bob", may{subscribe: "a"}, 2*time.Second))
	r.freeze(true)
	time.Sleep(2100 * time.Millisecond)
	s.send(fmt.Sprintf(`{"type":"auth","id":1,"token":%q}`, tokenFor(t, "alice", may{subscribe: "a"}, patience)))
	ending.send(fmt.Sprintf(`{"type":"auth","id":1,"token":%q}`, tokenFor(t, "bob", may{subscribe: "a"}, patience)))
	r.freeze(false)
	s.want("authenticated")
	for m := ending.receive(); m.Type != "authenticated"; m = ending.receive() {
		if m.Type != "token_expires" {
			t.Fatalf("received %+v", m)
		}
	}
}

// A handover leaves what is left of the time to show a token.
func TestHandoverOfTokensDue(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.AuthTimeout, c.Shards = 10*time.Second, 1 })
	s := r.dial("")
	s.want("welcome")
	time.Sleep(300 * time.Millisecond)
	r.freeze(true)
	r.onEach(func(sh *shard) {
		c, _, ok, err := sh.export(sh.tokenDue[0].id, &rightsNumbers{})
		if !ok || err != nil || !c.Owes || c.OwesWithin <= 0 || c.OwesWithin > r.cfg.AuthTimeout-100*time.Millisecond {
			t.Errorf("it is exported as %+v, %v, %v", c, ok, err)
		}
		before := sh.tokenDue[0].tick
		sh.expectTokenWithin(sh.tokenDue[0].id, c.OwesWithin)
		sh.tokenDue[0] = deadline{1, before + 1000}
		if sh.sortDue(); sh.tokenDue[0].id == 1 {
			t.Error("what is due later comes first")
		}
		sh.tokenDue = sh.tokenDue[:1]
	})
	r.freeze(false)
}

// What is handed over is as old as it was, however long the new process took to
// begin: a head that comes slowly is not late with its first tick.
func TestTakeOverCountsTimeFromThen(t *testing.T) {
	bus := natstest.Start(t, natstest.Store(t.TempDir()))
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.NATS, cfg.NATSListen = "127.0.0.1:0", "127.0.0.1:0", []string{bus.URL()}, ""
	cfg.HandshakeTimeout = time.Second
	old, theirs, err := handover.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(theirs.Fd()))
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	link, err := handover.Join(uintptr(fd))
	if err != nil {
		t.Fatal(err)
	}
	client, carried := socketPair(t)
	predecessor := make(chan error, 1)
	go func() {
		defer old.Close()
		predecessor <- beforeIt(old, &cfg, carried)
	}()
	s, err := TakeOver(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), link)
	if err := <-predecessor; err != nil {
		t.Error("the process before: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	time.Sleep(300 * time.Millisecond)
	if _, err := client.Write([]byte("Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	if err := client.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(answer); err != nil || string(answer) != "HTTP/1.1 101" {
		t.Errorf("answered %q, %v", answer, err)
	}
}

// beforeIt is the process before, which lets the new one wait, and has one
// connection, of which half a head has come.
func beforeIt(link *handover.Link, cfg *config.Config, carried int) error {
	l, err := poller.Listen("127.0.0.1:0", poller.ListenOptions{})
	if err != nil {
		return err
	}
	defer l.Close()
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer admin.Close()
	adminFD, err := duplicate(admin)
	if err != nil {
		return err
	}
	defer syscall.Close(adminFD)
	defer syscall.Close(carried)
	id := poller.NewToken(0, 1)
	half := handover.Client{Conn: conn.Carried{ID: id, Stage: conn.StageRequest, Head: []byte("GET /ws HTTP/1.1\r\n")}}
	offer := handover.Offer{NodeID: 1, NodeName: "a", Listen: cfg.Listen, Admin: cfg.Admin}
	interests := handover.Interests{Shards: []handover.Names{{Slots: 1, Generation: 1}}}
	for _, step := range []func() error{
		func() error { _, err := link.Expect(handover.KindHello); return err },
		func() error { return link.Send(handover.KindOffer, offer.Append(nil), l.FD(), adminFD) },
		func() error { _, err := link.Expect(handover.KindOpen); return err },
		func() error { time.Sleep(cfg.HandshakeTimeout + 300*time.Millisecond); return nil },
		func() error { return link.Send(handover.KindAhead, nil) },
		func() error { _, err := link.Expect(handover.KindBorrowed); return err },
		func() error { return link.Send(handover.KindInterests, interests.Append(nil)) },
		func() error { _, err := link.Expect(handover.KindCollecting); return err },
		func() error { return link.Send(handover.KindClients, half.Append(nil), carried) },
		func() error { return link.Send(handover.KindEnd, handover.AppendEnd(nil, 1)) },
		func() error { _, err := link.Expect(handover.KindAdopted); return err },
		func() error { return link.Send(handover.KindCommit, nil) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// socketPair is a client, and the other end as a process has it.
func socketPair(t *testing.T) (client net.Conn, fd int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if controlErr := raw.Control(func(its uintptr) { fd, err = syscall.Dup(int(its)) }); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return client, fd
}
