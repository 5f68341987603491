package handover

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

var update = flag.Bool("update", false, "write testdata anew")

func sampleClient() Client {
	return Client{
		Shard: 3, Ahead: true, Shape: 2, Strikes: 1, Standing: 1, Denials: 4, Lead: 30, Owes: true,
		Conn: conn.Carried{
			ID: poller.NewToken(17, 5), Stage: conn.StageOpen, Stream: true, Deflates: true, Adopted: true, Proxied: true, Unlimited: true,
			Ended: true, Paced: true, Client: netip.MustParseAddr("192.0.2.1"), Network: netip.MustParsePrefix("2001:db8::/64"), Heard: 99,
			SinceReceived: time.Second, SinceSent: 2 * time.Second, Pinged: true,
			Unsent: []byte("unsent"), Waits: true, SinceStalled: time.Minute, Blocked: true, Head: []byte("head"), Backlog: true, Throttled: true,
			Again: true, Served: netip.MustParsePrefix("192.0.2.7/32"),
			Partial: conn.Partial{Header: []byte{0x81}, InFrame: true, Frame: ws.Header{Fin: true, Rsv: 4, OpCode: ws.OpPing, Masked: true, Mask: [4]byte{1, 2, 3, 4}, Length: 9},
				Missing: 4, Control: []byte("12345"), Op: ws.OpText, Deflated: true, Body: []byte("body"), Valid: 2},
		},
		Subs: []topics.Carried{
			{Pattern: "a.>", Mode: topics.ModeLatest, Window: time.Second, At: topics.Position{Cursor: topics.Cursor{Epoch: 1, Seq: 2, Stamp: 3}}},
			{Pattern: "b", Mode: topics.ModeLive, At: topics.Position{Ring: topics.RingPlace{Life: 4, Entry: 5}}},
		},
		Session: &Session{Identity: "alice", Rights: 2, Expires: 1 << 31, Left: time.Hour},
	}
}

func sampleFeed() topics.CarriedFeed {
	return topics.CarriedFeed{
		Interest: topics.Interest{Name: "n", Namespace: true}, Last: 9, Floor: 6, MarkEvicted: 5,
		Subs: []topics.CarriedSub{{Pattern: "n.>", Life: 1 << 63, Evicted: 4, Polled: true}, {Pattern: "n.x", Life: 1}},
		Entries: []topics.CarriedEntry{
			{Seq: 7, Topic: "n.x", Data: []byte("data"), Time: 12345}, {Seq: 8, Lost: true, Why: topics.LossUpstream}, {Seq: 9, Topic: "n.y"},
		},
		Recent: []topics.Digest{{1, 2}, {}},
	}
}

// format is one record of each kind, and how it reads again.
func format() map[string]struct {
	record []byte
	same   func(p []byte) (bool, error)
} {
	type entry = struct {
		record []byte
		same   func(p []byte) (bool, error)
	}
	c, f := sampleClient(), sampleFeed()
	hello, offer := Hello{Version: Version, Software: "v1.2.3"}, Offer{NodeID: 7, NodeName: "a", Started: time.UnixMilli(1_700_000_000_123), Others: []string{"b", "c"}, Listen: ":8080", Admin: "127.0.0.1:8081", Store: "pushd-data"}
	interests := Interests{Patterns: []string{"a", "b.>"}, Shards: []Names{{1, 2}, {}}}
	sockets := Sockets{Shard: 1, IDs: []poller.Token{poller.NewToken(17, 5), poller.NewToken(0, 1)}}
	rights := Rights{Number: 2, Subscribe: []string{"a.>"}, Publish: []string{"b", "c"}}
	return map[string]entry{
		"hello":     {hello.Append(nil), func(p []byte) (bool, error) { v, err := ParseHello(p); return v == hello, err }},
		"offer":     {offer.Append(nil), func(p []byte) (bool, error) { v, err := ParseOffer(p); return reflect.DeepEqual(v, offer), err }},
		"interests": {interests.Append(nil), func(p []byte) (bool, error) { v, err := ParseInterests(p); return reflect.DeepEqual(v, interests), err }},
		"sockets":   {sockets.Append(nil), func(p []byte) (bool, error) { v, err := ParseSockets(p); return reflect.DeepEqual(v, sockets), err }},
		"feed":      {AppendFeed(nil, &f), func(p []byte) (bool, error) { v, err := ParseFeed(p); return reflect.DeepEqual(v, f), err }},
		"rights":    {rights.Append(nil), func(p []byte) (bool, error) { v, err := ParseRights(p); return reflect.DeepEqual(v, rights), err }},
		"clients":   {c.Append(nil), func(p []byte) (bool, error) { v, err := clients(p); return reflect.DeepEqual(v, []Client{c}), err }},
		"end":       {AppendEnd(nil, 300), func(p []byte) (bool, error) { v, err := ParseEnd(p); return v == 300, err }},
	}
}

func clients(p []byte) (all []Client, err error) {
	err = ParseClients(p, func(c *Client) error {
		one := *c
		one.Subs = slices.Clone(c.Subs)
		all = append(all, one)
		return nil
	})
	return all, err
}

// What one version wrote, every binary of that version reads.
func TestFormat(t *testing.T) {
	for name, f := range format() {
		if same, err := f.same(f.record); err != nil || !same {
			t.Errorf("%s does not read as it was: %v", name, err)
		}
		path := "testdata/" + name + ".hex"
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(f.record)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(f.record); got != strings.TrimSpace(string(golden)) {
			t.Errorf("%s is written as\n%s\nand was\n%s\nSo it needs another Version, or is a new field: then write testdata with -update", name, got, golden)
		}
	}
}

// A field that may be left out is skipped, and one that must not is not.
func TestUnknownFields(t *testing.T) {
	for name, f := range format() {
		later := writer(bytes.Clone(f.record))
		later.string(1000, "of a later version")
		if same, err := f.same(later); err != nil || !same {
			t.Errorf("%s with a further field: %v", name, err)
		}
		later.string(1001, "that matters")
		if _, err := f.same(later); err == nil {
			t.Errorf("%s with a field that matters was read", name)
		}
	}
}

func FuzzRecords(f *testing.F) {
	for _, one := range format() {
		f.Add(one.record)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if all, err := clients(p); err == nil {
			var again []byte
			for i := range all {
				again = all[i].Append(again)
			}
			if twice, err := clients(again); err != nil || !reflect.DeepEqual(twice, all) && len(all) > 0 {
				t.Errorf("%+v reads as %+v, %v", all, twice, err)
			}
		}
		if feed, err := ParseFeed(p); err == nil {
			if _, err := ParseFeed(AppendFeed(nil, &feed)); err != nil {
				t.Error(err)
			}
		}
		_, _ = ParseOffer(p)
		_, _ = ParseSockets(p)
		_, _ = ParseInterests(p)
		_, _ = ParseRights(p)
		_, _ = ParseHello(p)
		_, _ = ParseEnd(p)
	})
}

func links(t *testing.T) (a, b *Link) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if b, err = Join(uintptr(fd)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	for _, l := range []*Link{a, b} {
		l.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return a, b
}

// As many sockets as there may be, message upon message, arrive with their own.
func TestLinkCarriesSockets(t *testing.T) {
	a, b := links(t)
	const messages = 5
	sent := make(chan error, 1)
	go func() {
		sent <- func() error {
			for m := range messages {
				var fds []int
				for i := range MaxFDs {
					p := make([]int, 2)
					if err := unix.Pipe2(p, unix.O_CLOEXEC); err != nil {
						return err
					}
					unix.Write(p[1], []byte{byte(m), byte(i)})
					unix.Close(p[1])
					fds = append(fds, p[0])
				}
				err := a.Send(KindClients, bytes.Repeat([]byte{byte(m)}, m*100_000), fds...)
				for _, fd := range fds {
					unix.Close(fd)
				}
				if err != nil {
					return err
				}
			}
			return a.Send(KindEnd, nil)
		}()
	}()
	for m := range messages {
		k, payload, fds, err := b.Receive()
		if err != nil || k != KindClients || len(payload) != m*100_000 || len(fds) != MaxFDs {
			t.Fatalf("message %d: kind %d, %d bytes, %d sockets, %v", m, k, len(payload), len(fds), err)
		}
		for i, fd := range fds {
			var got [2]byte
			if _, err := unix.Read(fd, got[:]); err != nil || got != [2]byte{byte(m), byte(i)} {
				t.Errorf("socket %d of message %d has %v: %v", i, m, got, err)
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("socket %d would be inherited: %v", i, err)
			}
			unix.Close(fd)
		}
	}
	if _, err := b.Expect(KindEnd); err != nil {
		t.Error(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestLinkFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		send func(a *Link) error
		want string
	}{
		"the end":         {func(a *Link) error { return a.Close() }, "EOF"},
		"another kind":    {func(a *Link) error { return a.Send(KindOpen, nil) }, "came in place of"},
		"what went wrong": {func(a *Link) error { return a.Send(KindFailed, []byte("no NATS")) }, "no NATS"},
		"no message":      {func(a *Link) error { _, err := a.c.Write(make([]byte, headerSize)); return err }, "not the head"},
		"a cut message": {func(a *Link) error {
			_, err := a.c.Write([]byte("push\x01\x00\x00\x00\x00\x00\x00\x09abc"))
			return errors.Join(err, a.Close())
		}, "EOF"},
		"sockets that lack":  {func(a *Link) error { _, err := a.c.Write([]byte("push\x01\x02\x00\x00\x00\x00\x00\x00")); return err }, "0 of 2 sockets"},
		"sockets not wanted": {func(a *Link) error { return a.Send(KindHello, nil, 0) }, "with 1 sockets"},
	} {
		a, b := links(t)
		if err := tc.send(a); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Expect(KindHello); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if err := CheckVersion(Version + 1); err == nil {
		t.Error("another version was taken")
	}
}
