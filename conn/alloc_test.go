package conn

import (
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// What is done for each message of a connection that keeps up allocates
// nothing.
func TestAllocs(t *testing.T) {
	table, c := newManual(t, &script{})
	c.shake()
	id := c.id
	frame := AppendFrame(nil, ws.OpText, []byte(pattern(128)))
	small := maskedText(pattern(100))
	ping := masked(ws.OpPing, "")
	scratch := make([]byte, 0, 256)
	for _, tc := range []struct {
		name string
		f    func()
	}{
		{"Send", func() { table.Send(id.Slot(), frame) }},
		{"SendCopy", func() { table.SendCopy(id.Slot(), frame) }},
		{"Reply", func() { table.Reply(id, frame) }},
		{"a message and its reply", func() {
			c.write(append(scratch, small...)) // reading unmasks in its own buffer, not here
			table.Ready(id, poller.Readable)
		}},
		{"a ping and its pong", func() {
			c.write(ping)
			table.Ready(id, poller.Readable)
		}},
		{"a turn and a tick", func() {
			table.Tick(1)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := testing.AllocsPerRun(1000, func() {
				tc.f()
				table.Turn()
				c.read()
			})
			if n != 0 {
				t.Errorf("%v allocations, want none", n)
			}
		})
	}
	if got := table.Send(id.Slot(), frame); got != Sent {
		t.Errorf("Send: %v: the connection did not keep up", got)
	}
}

// Nor does a stream, whose heartbeat is no ping.
func TestAllocsOfStream(t *testing.T) {
	table, c := newManual(t, streaming(), func(c *Config) {
		c.Claims, c.Beat = func(string) bool { return true }, []byte(":\n\n")
	})
	c.write([]byte(ask("/get")[len("GET"):]))
	table.Ready(c.id, poller.Readable)
	if got := string(c.read()); got != streamHead+"hello\n" {
		t.Fatalf("the stream begins with %q", got)
	}
	r, now := table.slab.at(0), uint32(0)
	data := []byte(pattern(128))
	for name, f := range map[string]func(){
		"Send":     func() { table.Send(0, data) },
		"SendCopy": func() { table.SendCopy(0, data) },
		"Reply":    func() { table.Reply(c.id, data) },
		"a beat":   func() { now += 2 * table.ticks.heartbeat; table.beat(c.id, r, now) },
	} {
		if n := testing.AllocsPerRun(1000, func() {
			f()
			table.Turn()
			if len(c.read()) == 0 {
				t.Fatalf("%s: nothing came", name)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func BenchmarkSend(b *testing.B) {
	table, c := newManual(b, &script{})
	c.shake()
	frame := AppendFrame(nil, ws.OpText, []byte(pattern(136)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if table.Send(0, frame) != Sent {
			b.Fatal("the socket took no more")
		}
		if i%64 == 0 {
			c.read()
		}
	}
}

// BenchmarkEcho is one message in and its reply out, both system calls of the
// client included.
func BenchmarkEcho(b *testing.B) {
	table, c := newManual(b, &script{})
	c.shake()
	message := maskedText(pattern(136))
	b.ReportAllocs()
	for b.Loop() {
		c.write(message)
		table.Ready(c.id, poller.Readable)
		table.Turn()
		c.read()
	}
}

// BenchmarkSweep is what an idle connection costs in each of the ten sweeps of
// a heartbeat.
func BenchmarkSweep(b *testing.B) {
	const n = 1 << 20
	table, _ := newManual(b, &script{})
	for table.slab.next < n {
		_, r := table.slab.take(-1)
		r.state = stateOpen
	}
	b.ReportAllocs()
	for b.Loop() {
		for slot := range table.slab.next {
			table.beat(poller.NewToken(slot, 1), table.slab.at(slot), 1)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/conn")
	for slot := uint32(1); slot < table.slab.next; slot++ {
		table.slab.free(slot) // they have no socket
	}
}
