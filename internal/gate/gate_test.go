package gate

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/pushd/pushd/internal/via"
)

// clocked is a gate whose time is the test's.
func clocked(l Limits) (g *Gate, pass func(time.Duration)) {
	now := int64(0)
	g = New(l)
	g.now = func() int64 { return now }
	return g, func(d time.Duration) { now += d.Microseconds() }
}

func address(text string) netip.Addr { return netip.MustParseAddr(text) }

func TestConnectionsOfAnAddress(t *testing.T) {
	f := func(first, second string, same bool) {
		t.Helper()
		g, _ := clocked(Limits{Connections: 1})
		v, verdict := g.Enter(address(first), true)
		if verdict != Admitted || v == 0 {
			t.Fatalf("the first of %s: %v", first, verdict)
		}
		want := Admitted
		if same {
			want = TooMany
		}
		w, verdict := g.Enter(address(second), true)
		if verdict != want {
			t.Errorf("%s after %s: %v, want %v", second, first, verdict, want)
		}
		if same {
			if w, verdict = g.Enter(address(second), false); verdict != Admitted {
				t.Errorf("%s, who is not limited: %v", second, verdict)
			}
		}
		g.Leave(v)
		g.Leave(w)
		g.Leave(0)
		if n := g.Addresses(); n != 0 {
			t.Errorf("%s and %s have left, and %d addresses are known", first, second, n)
		}
	}
	f("192.0.2.1", "192.0.2.1", true)
	f("192.0.2.1", "192.0.2.2", false)
	f("192.0.2.1", "::ffff:192.0.2.1", true)
	f("2001:db8:1:2::1", "2001:db8:1:2:ffff::", true) // one customer's
	f("2001:db8:1:2::1", "2001:db8:1:3::1", false)
	f("::1", "0.0.0.1", false)
	f("fe80::1%eth0", "fe80::2", true)
}

func TestRateOfAnAddress(t *testing.T) {
	g, pass := clocked(Limits{ConnectionRate: 2})
	a, b := address("192.0.2.1"), address("192.0.2.2")
	for i := range 20 {
		v, verdict := g.Enter(a, true)
		if verdict != Admitted {
			t.Fatalf("number %d of a burst of 20: %v", i, verdict)
		}
		g.Leave(v) // which does not make it forgotten
	}
	if _, verdict := g.Enter(a, true); verdict != TooFast {
		t.Errorf("beyond the burst: %v", verdict)
	}
	if _, verdict := g.Enter(b, true); verdict != Admitted {
		t.Errorf("another address: %v", verdict)
	}
	pass(500 * time.Millisecond)
	if v, verdict := g.Enter(a, true); verdict != Admitted {
		t.Errorf("after half a second: %v", verdict)
	} else {
		g.Leave(v)
	}
	g.Sweep()
	if n := g.Addresses(); n != 2 {
		t.Errorf("%d addresses before they have recovered, want 2", n)
	}
	pass(Burst + time.Second)
	g.Sweep()
	if n := g.Addresses(); n != 1 {
		t.Errorf("%d addresses after they have recovered, want the one that is connected", n)
	}
}

func TestHandshakesOfAll(t *testing.T) {
	g, pass := clocked(Limits{HandshakeRate: 5})
	for range 5 {
		if g.Handshake() != 0 {
			t.Fatal("not even a second's worth is taken at once")
		}
	}
	if wait := g.Handshake(); wait != 200*time.Millisecond {
		t.Errorf("beyond it: wait %v, want 200ms", wait)
	}
	pass(200 * time.Millisecond)
	if g.Handshake() != 0 {
		t.Error("refused after the wait")
	}
}

// A crowd that obeys comes back as a queue: nobody is refused twice, and none comes faster than the rate.
func TestHandshakesQueue(t *testing.T) {
	const rate, crowd = 50, 500
	g, pass := clocked(Limits{HandshakeRate: rate})
	waiting := map[time.Duration]int{0: crowd} // by when they come, each at the full second that it was told
	for now, admitted := time.Duration(0), 0; admitted < crowd; now += time.Second {
		for range waiting[now] {
			switch wait := g.Handshake(); {
			case wait == 0:
				admitted++
			case now > 0:
				t.Fatalf("after %v, %d are let in, and one who came at its time is to wait %v more", now, admitted, wait)
			default:
				waiting[(wait+time.Second-1).Truncate(time.Second)]++
			}
		}
		if now > crowd/rate*time.Second {
			t.Fatalf("%d of %d are let in after %v", admitted, crowd, now)
		}
		pass(time.Second)
	}
	if wait := g.Handshake(); wait != 0 {
		t.Errorf("the queue is empty, and one is to wait %v", wait)
	}
}

// A crowd beyond what a queue can hold is spread over its later half, and a queue in which nobody waits passes.
func TestHandshakesBeyondQueue(t *testing.T) {
	g, pass := clocked(Limits{HandshakeRate: 1})
	told := map[time.Duration]int{}
	for range 2000 {
		wait := g.Handshake()
		if wait > Queue {
			t.Fatalf("one is to wait %v", wait)
		}
		told[wait.Truncate(time.Second)]++
	}
	for second, n := range told {
		if n > 400 { // a fifteenth of them, and chance
			t.Errorf("%d are to come after %v", n, second)
		}
	}
	pass(Queue)
	if wait := g.Handshake(); wait != 0 {
		t.Errorf("nobody has come, and one is to wait %v", wait)
	}
	if wait := g.Handshake(); wait != time.Second {
		t.Errorf("the next is to wait %v, want a second", wait)
	}
}

// Those who come too fast from one address come again as a queue, which is not another address's.
func TestAddressQueue(t *testing.T) {
	const rate, crowd = 2, 40
	g, pass := clocked(Limits{ConnectionRate: rate})
	a, b := address("192.0.2.1"), address("192.0.2.2")
	for range rate * int(Burst/time.Second) {
		g.Enter(a, true)
	}
	for i := range crowd {
		if _, verdict := g.Enter(a, true); verdict != TooFast {
			t.Fatalf("beyond the burst: %v", verdict)
		}
		if wait, want := g.Again(a), max(time.Duration(i+1)*time.Second/rate, time.Second); wait != want {
			t.Fatalf("number %d is to wait %v, want %v", i, wait, want)
		}
	}
	if _, verdict := g.Enter(b, true); verdict != Admitted {
		t.Errorf("another address: %v", verdict)
	}
	if wait := g.Again(address("192.0.2.3")); wait != time.Second {
		t.Errorf("an address that was forgotten is to wait %v", wait)
	}
	g.Enter(b, true)
	pass(Burst)
	if wait := g.Again(b); wait != time.Second {
		t.Errorf("an address for which there has come to be room is to wait %v", wait)
	}
	pass(-Burst)
	for i := range crowd { // to the moment
		pass(time.Second / rate)
		if v, verdict := g.Enter(a, true); verdict != Admitted {
			t.Fatalf("number %d, when it is due: %v", i, verdict)
		} else {
			g.Leave(v)
		}
	}
}

func TestPublishing(t *testing.T) {
	g, pass := clocked(Limits{PublishRate: 1})
	for range 10 {
		if g.Publish(address("192.0.2.1")) != 0 {
			t.Fatal("ten seconds' worth is not taken at once")
		}
	}
	if g.Publish(address("192.0.2.2")) != 0 {
		t.Error("another address waits")
	}
	if wait := g.Publish(address("192.0.2.1")); wait != time.Second {
		t.Errorf("wait %v, want 1s", wait)
	}
	if wait := g.Published(address("192.0.2.1"), 3); wait != 3*time.Second {
		t.Errorf("after three more wait %v, want 3s", wait)
	}
	pass(4 * Burst)
	g.Sweep()
	if n := g.Addresses(); n != 0 {
		t.Errorf("%d addresses are known of who has recovered", n)
	}
}

func TestUnlimited(t *testing.T) {
	g := New(Limits{Unlimited: via.Networks{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}})
	for a, want := range map[string][2]bool{
		"10.1.2.3": {true, true}, "::ffff:10.1.2.3": {true, true}, "11.1.2.3": {false, false},
		"127.0.0.1": {true, false}, "::ffff:127.0.0.1": {true, false}, "::1": {false, false},
	} {
		if seen, told := g.Unlimited(address(a), false), g.Unlimited(address(a), true); seen != want[0] || told != want[1] {
			t.Errorf("%s: %v where a socket says so, %v where a proxy does; want %v", a, seen, told, want)
		}
	}
	if !g.Unlimited(netip.Addr{}, false) {
		t.Error("what has no address is limited")
	}
}

// Without a gate everybody comes in.
func TestNoGate(t *testing.T) {
	var g *Gate
	v, verdict := g.Enter(address("192.0.2.1"), true)
	if v != 0 || verdict != Admitted || g.Handshake() != 0 || g.Publish(address("192.0.2.1")) != 0 || g.Limits().Connections != 0 {
		t.Error("no gate limits")
	}
	g.Leave(0)
	g.Sweep()
}

// A flood from ever new addresses is remembered within a bound, and forgotten.
func TestFloodOfAddresses(t *testing.T) {
	g, pass := clocked(Limits{Connections: 10, ConnectionRate: 1})
	const held, passing = 1000, 400_000
	var visits []Visit
	for i := range held + passing {
		v, verdict := g.Enter(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i)))), true)
		if verdict != Admitted {
			t.Fatalf("address %d: %v", i, verdict)
		}
		if i < held {
			visits = append(visits, v)
		} else {
			g.Leave(v)
		}
		if n := g.Addresses(); n > held+maxIdle+1 {
			t.Fatalf("%d addresses are remembered after %d", n, i+1)
		}
	}
	if most := (held + maxIdle + 2*pageSize) / pageSize; len(g.pages) > most {
		t.Errorf("%d pages, want at most %d: %d bytes each", len(g.pages), most, unsafe.Sizeof(*g.pages[0]))
	}
	pass(2 * Burst)
	for range (maxIdle + held) / sweepAtATime * 2 {
		g.Sweep()
	}
	if n := g.Addresses(); n != held {
		t.Errorf("%d addresses are known when %d are connected", n, held)
	}
	if g.peak > 2*held {
		t.Error("the map keeps the size that the flood gave it")
	}
	for _, v := range visits {
		g.Leave(v)
	}
	if n := g.Addresses(); n != 0 {
		t.Errorf("%d addresses are left", n)
	}
}

func TestEntrySize(t *testing.T) {
	if size := unsafe.Sizeof(entry{}); size > 48 {
		t.Errorf("an address takes %d bytes, want 40", size)
	}
}

func TestGateAllocs(t *testing.T) {
	g := New(Limits{Connections: 1, ConnectionRate: 1000})
	a, b := address("192.0.2.1"), address("2001:db8::1")
	v, _ := g.Enter(a, true)
	if n := testing.AllocsPerRun(100, func() {
		if _, verdict := g.Enter(a, true); verdict != TooMany {
			t.Fatal(verdict)
		}
		w, _ := g.Enter(b, true)
		g.Leave(w)
		g.Sweep()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	g.Leave(v)
}

// What a gate decides is what a plain map decides, whoever comes and goes.
func TestGateModel(t *testing.T) {
	const most, rate = 3, 5
	rng := rand.New(rand.NewPCG(1, 2))
	g, pass := clocked(Limits{Connections: most, ConnectionRate: rate})
	type known struct {
		visits []Visit
		paidAt time.Duration
	}
	model := map[netip.Addr]*known{}
	now := time.Duration(0)
	for step := range 20_000 {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(40))})
		m := model[a]
		if m == nil {
			m = &known{}
			model[a] = m
		}
		switch rng.IntN(5) {
		case 0:
			d := time.Duration(rng.IntN(300)) * time.Millisecond
			now += d
			pass(d)
		case 1:
			g.Sweep()
		case 2:
			if n := len(m.visits); n > 0 {
				g.Leave(m.visits[n-1])
				m.visits = m.visits[:n-1]
			}
		default:
			debt := max(m.paidAt-now, 0) + time.Second/rate
			want := Admitted
			switch {
			case len(m.visits) >= most:
				want = TooMany
			case debt > Burst:
				want = TooFast
			default:
				m.paidAt = now + debt
			}
			v, got := g.Enter(a, true)
			if got != want {
				t.Fatalf("step %d: %v of %v, want %v", step, got, a, want)
			}
			if got == Admitted {
				m.visits = append(m.visits, v)
				if g.Network(v) != netip.PrefixFrom(a, 32) {
					t.Fatalf("step %d: %v is %v", step, a, g.Network(v))
				}
			}
		}
	}
	for _, m := range model {
		for _, v := range m.visits {
			g.Leave(v)
		}
	}
	pass(2 * Burst)
	g.Sweep()
	if n := g.Addresses(); n != 0 || g.idle.n != 0 || g.idle.oldest != 0 || g.idle.newest != 0 {
		t.Errorf("%d addresses are left, idle %+v", n, g.idle)
	}
}

// BenchmarkVisit is what a connection costs from its accept to its end.
func BenchmarkVisit(b *testing.B) {
	g := New(Limits{Connections: 100}) // a rate would refuse most
	a := address("192.0.2.1")
	held, _ := g.Enter(a, true)
	b.ReportAllocs()
	for b.Loop() {
		v, _ := g.Enter(a, true)
		g.Leave(v)
	}
	g.Leave(held)
}
