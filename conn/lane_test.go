package conn

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// onBothLanes runs f for each lane; io_uring only where the kernel allows it.
func onBothLanes(t *testing.T, f func(t *testing.T, lane func(*Config))) {
	for _, name := range []string{LaneWrite, LaneURing} {
		t.Run(name, func(t *testing.T) {
			if ring, err := newURing(sendsAtATime); name == LaneURing && err != nil {
				t.Skip(err)
			} else if err == nil {
				ring.close()
			}
			f(t, func(c *Config) { c.Lane = name })
		})
	}
}

// TestLanes sends at random, by every way there is, to clients that read at
// random. The model is plain: each client reads, in order, exactly the bytes
// that were taken for it.
func TestLanes(t *testing.T) {
	onBothLanes(t, func(t *testing.T, lane func(*Config)) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		s := &script{}
		table, first := newManual(t, s, lane)
		peers := []*peer{first}
		for len(peers) < 200 { // more than go into one system call
			peers = append(peers, newPeer(t, table))
		}
		for _, p := range peers {
			p.shake()
		}
		want, got := make([][]byte, len(peers)), make([][]byte, len(peers))
		payload := []byte(pattern(60_000))
		scratch := make([]byte, 0, 1<<17)
		blocked := 0
		read := func(i int) {
			got[i] = append(got[i], peers[i].read()...)
			table.Ready(peers[i].id, poller.Writable)
		}
		for range 20 {
			for range 400 {
				i := random.IntN(len(peers))
				id := peers[i].id
				frame := AppendFrame(nil, ws.OpBinary, payload[:random.IntN(len(payload))])
				switch random.IntN(8) {
				case 0:
					table.Reply(id, frame[:min(len(frame), 100)]) // taken whatever waits
					want[i] = append(want[i], frame[:min(len(frame), 100)]...)
				case 1, 2:
					scratch = append(scratch[:0], frame...)
					if table.SendCopy(id.Slot(), scratch) == Sent {
						want[i] = append(want[i], frame...)
					} else {
						blocked++
					}
					clear(scratch[:cap(scratch)]) // the caller's again
				case 3:
					read(i)
				default:
					if table.Send(id.Slot(), frame) == Sent {
						want[i] = append(want[i], frame...)
					} else {
						blocked++
					}
				}
			}
			table.Turn()
		}
		for i := range peers {
			for len(got[i]) < len(want[i]) {
				before := len(got[i])
				if read(i); len(got[i]) == before {
					break
				}
			}
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("client %d read %d bytes, want %d, the same", i, len(got[i]), len(want[i]))
			}
		}
		if blocked == 0 {
			t.Error("nobody was blocked: the test tests little")
		}
		for _, p := range peers {
			p.close()
			table.Ready(p.id, poller.Readable)
		}
		table.Turn()
	})
}

// A connection that has left is found out by the lane, and ends like any other.
func TestLaneSendsToOneWhoHasLeft(t *testing.T) {
	onBothLanes(t, func(t *testing.T, lane func(*Config)) {
		var reasons []Reason
		s := &script{closed: func(_ poller.Token, why Reason) { reasons = append(reasons, why) }}
		table, first := newManual(t, s, lane)
		peers := []*peer{first}
		for len(peers) < 2*worthARing {
			peers = append(peers, newPeer(t, table))
		}
		for i, p := range peers {
			p.shake()
			if i%2 == 0 {
				p.close()
			}
		}
		for _, p := range peers {
			table.Send(p.id.Slot(), pingFrame)
		}
		table.Turn()
		if len(reasons) != worthARing {
			t.Errorf("%d were told closed, want %d", len(reasons), worthARing)
		}
		for i, p := range peers {
			if i%2 == 1 && !bytes.Equal(p.read(), pingFrame) {
				t.Errorf("client %d did not get its frame", i)
			}
		}
	})
}

func TestLaneAllocatesNothing(t *testing.T) {
	onBothLanes(t, func(t *testing.T, lane func(*Config)) {
		table, first := newManual(t, &script{}, lane)
		peers := []*peer{first}
		for len(peers) < 20 {
			peers = append(peers, newPeer(t, table))
		}
		for _, p := range peers {
			p.shake()
		}
		frame := AppendFrame(nil, ws.OpText, []byte(pattern(140)))
		if n := testing.AllocsPerRun(100, func() {
			for _, p := range peers {
				if table.Send(p.id.Slot(), frame) != Sent || table.SendCopy(p.id.Slot(), frame) != Sent {
					t.Fatal("blocked")
				}
			}
			table.Turn()
			for _, p := range peers {
				p.read()
			}
		}); n != 0 {
			t.Errorf("%v allocations for %d sends", n, 2*len(peers))
		}
	})
}

func TestLaneByName(t *testing.T) {
	table, p := newManual(t, &script{}, func(c *Config) { c.Lane = LaneAuto })
	p.shake()
	if got := table.Lane(); got != LaneURing && got != LaneWrite {
		t.Errorf("auto chose %q", got)
	}
	loop, err := poller.New(poller.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	if _, err := NewTable(Config{Lane: "pigeon"}, loop, nil, &script{}); err == nil || !strings.Contains(err.Error(), `"pigeon"`) {
		t.Errorf("a lane of that name: %v", err)
	}
	if ring, err := newURing(1 << 30); err == nil { // as where it is forbidden
		ring.close()
		t.Error("a ring for a billion sends was made")
	}
}
