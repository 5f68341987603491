package conn

import (
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/poller"
)

// moveAll gives every connection of one table to another, as two processes do:
// the sockets are duplicated, and each side has its own.
func moveAll(from, to *shard) (moved int) {
	from.t.Helper()
	from.do(func() { moved = moveHere(from, to, unix.Dup) })
	return moved
}

// moveHere is for the loop of the first. take makes of its socket the one that the
// other gets.
func moveHere(from, to *shard, take func(fd int) (int, error)) (moved int) {
	from.Freeze()
	from.Turn()
	slots, generation := from.Slots(), from.Generation()
	to.do(func() {
		to.Reserve(slots, generation)
		for slot := range slots {
			c, fd, ok := from.Export(from.ID(slot))
			if !ok {
				continue
			}
			moved++
			its, err := take(fd)
			if err != nil {
				from.t.Errorf("taking a socket: %v", err)
				continue
			}
			if c.Stage == StageOpen {
				to.script.alive[c.ID], to.script.newID = true, c.ID
			}
			if err := to.Import(&c, its); err != nil {
				from.t.Errorf("Import of %+v: %v", c, err)
			}
		}
		to.Settle()
	})
	for slot := range slots {
		id := from.ID(slot)
		if _, _, ok := from.Export(id); ok {
			from.Abandon(id)
			delete(from.script.alive, id)
		}
	}
	from.Thaw()
	return moved
}

// A connection moves between any two bytes that its client sends.
func TestHandoverCutAnywhere(t *testing.T) {
	sent := join(maskedText("one"), fragment(ws.OpText, false, "caf\xc3"), masked(ws.OpPing, "between"),
		fragment(ws.OpContinuation, true, "\xa9"), masked(ws.OpBinary, pattern(300)))
	from, to := startShard(t, &script{}), startShard(t, &script{})
	var clients []*client
	for cut := range len(sent) {
		c := from.open()
		c.send(sent[:cut])
		clients = append(clients, c)
	}
	n := 0
	for cut := range len(sent) {
		n += len(plainRequest) + cut
	}
	from.wantRead(n)
	if moved := moveAll(from, to); moved != len(clients) {
		t.Fatalf("%d of %d connections moved", moved, len(clients))
	}
	for cut, c := range clients {
		c.send(sent[cut:])
		c.wantText("one")
		c.want(ws.OpPong, []byte("between"))
		c.wantText("café")
		c.want(ws.OpBinary, []byte(pattern(300)))
	}
	from.wantEmpty()
	if n := to.Counts().Open; n != int64(len(clients)) {
		t.Errorf("%d connections are counted as open, want %d", n, len(clients))
	}
	clients[0].send(maskedClose(1000, ""))
	clients[0].wantClose(1000)
	to.wantClosed(ReasonClientClosed, 1)
	other := from.open() // the first table takes others
	other.send(maskedText("still here"))
	other.wantText("still here")
}

func TestHandoverCompressed(t *testing.T) {
	deflating := func(s *settings) { s.Deflate = true }
	from, to := startShard(t, &script{}, deflating), startShard(t, &script{}, deflating)
	c := from.connect()
	const head = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n\r\n"
	c.send(head)
	c.wantSwitch()
	f := ws.NewFrame(ws.OpText, true, []byte(zipped(pattern(2000))))
	f.Header.Rsv = ws.Rsv(true, false, false)
	frame := ws.MustCompileFrame(ws.MaskFrameInPlaceWith(f, [4]byte{1, 2, 3, 4}))
	c.send(frame[:len(frame)/2])
	from.wantRead(len(head) + len(frame)/2)
	moveAll(from, to)
	c.send(frame[len(frame)/2:])
	c.wantText(pattern(2000))
}

// What a socket did not take arrives, once and in order, and who was told to
// wait for room is told that there is.
func TestHandoverUnsent(t *testing.T) {
	from, to := startShard(t, &script{}, smallBuffers), startShard(t, &script{}, smallBuffers)
	c, slot := from.openID()
	next := from.stuff(slot, 0, from.SendCopy)
	drains := from.script.drains.Load()
	moveAll(from, to)
	c.wantNumbered(0, next)
	until(t, "the handler hears of the room", func() bool { return to.script.drains.Load() == 1 })
	to.do(func() { to.Send(slot, numbered(next)) })
	c.wantNumbered(next, next+1)
	if n := from.script.drains.Load(); n != drains {
		t.Error("the table that gave it up told of room")
	}
}

func TestHandoverStream(t *testing.T) {
	from, to := startShard(t, streaming(), claiming), startShard(t, streaming(), claiming)
	c, slot := from.openStream()
	moveAll(from, to)
	to.do(func() { to.Send(slot, []byte("data\n")) })
	c.wantBytes("data\n")
	to.do(func() { to.Close(to.ID(slot), ReasonDraining) })
	c.wantBytes("end: 1012 draining\n")
	c.wantEnd()
}

// A request that has come in part, and a connection between two requests.
func TestHandoverRequests(t *testing.T) {
	from, to := startShard(t, &script{}, claiming), startShard(t, &script{}, claiming)
	half, idle := from.connect(), from.connect()
	half.send(plainRequest[:40])
	idle.send(ask("/get/1"))
	if body := idle.wantStatus(http.StatusOK); body != "/get/1" {
		t.Fatalf("answered with %q", body)
	}
	from.wantRead(40 + len(ask("/get/1")))
	until(t, "the answered request has ended", func() bool { return look(from, func() int { return len(from.script.alive) }) == 0 })
	if n := moveAll(from, to); n != 2 {
		t.Fatalf("%d connections moved, want 2", n)
	}
	half.send(plainRequest[40:])
	half.wantSwitch()
	half.send(maskedText("hello"))
	half.wantText("hello")
	idle.send(ask("/get/2"))
	if body := idle.wantStatus(http.StatusOK); body != "/get/2" {
		t.Fatalf("answered with %q", body)
	}
}

func TestHandoverThrottled(t *testing.T) {
	slow := func(s *settings) { s.ByteRate, s.MaxMessage = 1<<19, 1<<20 }
	measuring := func() *script {
		s := &script{}
		s.message = func(id poller.Token, _ ws.OpCode, payload []byte) {
			s.table.Reply(id, AppendFrame(nil, ws.OpText, strconv.AppendInt(nil, int64(len(payload)), 10)))
		}
		return s
	}
	from, to := startShard(t, measuring(), slow), startShard(t, measuring(), slow)
	c := from.open()
	const messages = 4
	message := maskedText(pattern(1 << 20)) // made before: sending it must not take the time that forgives it
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range messages {
			c.send(message)
		}
	}()
	until(t, "it is throttled", func() bool { return from.Counts().Throttled > 0 })
	moveAll(from, to)
	for range messages {
		c.wantText(strconv.Itoa(1 << 20))
	}
	<-sent
}

// A table that nobody took anything of goes on, and its limits know no change.
func TestHandoverTakenBack(t *testing.T) {
	g := gate.New(gate.Limits{Connections: 2})
	from := startShard(t, &script{}, func(s *settings) { s.Gate = g })
	c := from.open()
	c.send(maskedText("cut")[:4])
	from.wantRead(len(plainRequest) + 4)
	var first, second Carried
	from.do(func() {
		from.Freeze()
		first, _, _ = from.Export(from.script.newID)
		second, _, _ = from.Export(from.script.newID)
	})
	if !reflect.DeepEqual(first, second) {
		t.Errorf("the second look differs:\n%+v\n%+v", first, second)
	}
	if want := netip.MustParsePrefix("127.0.0.1/32"); first.Network != want {
		t.Errorf("counted as %v, want %v", first.Network, want)
	}
	c.send(maskedText("cut")[4:], maskedText("more"))
	late := from.connect() // waits in the kernel
	late.send(plainRequest)
	time.Sleep(2 * testTick)
	if n := from.Counts().Messages; n != 0 {
		t.Errorf("%d messages were read of a frozen table", n)
	}
	from.do(from.Thaw)
	c.wantText("cut", "more")
	late.wantSwitch()
	third := from.connect()
	third.wantStatus(http.StatusTooManyRequests)
}

// The gate of the new table counts those who came.
func TestHandoverIsCounted(t *testing.T) {
	with := func(g *gate.Gate) func(*settings) { return func(s *settings) { s.Gate = g } }
	before, after := gate.New(gate.Limits{Connections: 2}), gate.New(gate.Limits{Connections: 2})
	from, to := startShard(t, &script{}, with(before)), startShard(t, &script{}, with(after))
	from.open()
	from.open()
	moveAll(from, to)
	late := to.connect()
	late.wantStatus(http.StatusTooManyRequests)
	from.open() // there they have left
}

// Whoever comes after a handover has a name that nobody had before.
func TestHandoverNames(t *testing.T) {
	from, to := startShard(t, &script{}), startShard(t, &script{})
	had := map[poller.Token]bool{}
	for range 3 {
		a, b := from.open(), from.open()
		from.do(func() {
			for slot := range from.Slots() {
				had[from.ID(slot)] = true
			}
		})
		a.reset()
		from.wantClosed(ReasonClientGone, uint64(len(had)/2))
		_ = b
	}
	moveAll(from, to)
	for range 6 {
		to.open()
		if id := look(to, func() poller.Token { return to.script.newID }); had[id] {
			t.Errorf("%v had that name before", id)
		} else {
			had[id] = true
		}
	}
}

func TestImportRefusesNonsense(t *testing.T) {
	to := startShard(t, &script{})
	id := poller.NewToken(0, 1)
	for name, c := range map[string]Carried{
		"no generation":      {ID: poller.NewToken(0, 0), Stage: StageOpen},
		"slot beyond":        {ID: poller.NewToken(9, 1), Stage: StageOpen},
		"no such stage":      {ID: id, Stage: numStages},
		"no backlog":         {ID: id, Stage: StageOpen, Backlog: true},
		"long header":        {ID: id, Stage: StageOpen, Partial: Partial{Header: make([]byte, 14)}},
		"missing too much":   {ID: id, Stage: StageOpen, Partial: Partial{InFrame: true, Op: ws.OpText, Frame: ws.Header{OpCode: ws.OpText, Length: 10}, Missing: 11}},
		"negative":           {ID: id, Stage: StageOpen, Partial: Partial{InFrame: true, Op: ws.OpText, Frame: ws.Header{OpCode: ws.OpText, Length: 10}, Missing: -1}},
		"body is short":      {ID: id, Stage: StageOpen, Partial: Partial{InFrame: true, Op: ws.OpText, Frame: ws.Header{OpCode: ws.OpText, Length: 10}, Missing: 5}},
		"body of no message": {ID: id, Stage: StageOpen, Partial: Partial{Body: []byte("x")}},
		"valid beyond":       {ID: id, Stage: StageOpen, Partial: Partial{Op: ws.OpText, Body: []byte("x"), Valid: 2}},
	} {
		to.do(func() {
			to.Reserve(1, 1)
			fds := make([]int, 2)
			if err := unix.Pipe2(fds, unix.O_NONBLOCK); err != nil {
				t.Error(err)
				return
			}
			if err := to.Import(&c, fds[0]); err == nil {
				t.Errorf("%s was taken", name)
			}
			if _, err := unix.Write(fds[1], []byte{1}); err != unix.EPIPE {
				t.Errorf("%s: the socket is still open: %v", name, err)
			}
			unix.Close(fds[1])
		})
	}
	to.do(to.Settle)
	c := to.open()
	c.send(maskedText("fine"))
	c.wantText("fine")
}
