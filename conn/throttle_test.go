package conn

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/poller"
)

func TestInRate(t *testing.T) {
	for _, tc := range []struct {
		perSecond, maxMessage int
		want                  inRate
	}{
		{0, 1 << 16, inRate{}},
		{1 << 20, 1 << 16, inRate{104857, 4 << 20, 14 << 20}},
		{1000, 1 << 16, inRate{100, 1 << 17, 1<<17 + 10_000}}, // a burst holds two messages
		{5, 1 << 10, inRate{1, 1 << 11, 1<<11 + 50}},
		{1 << 40, 1 << 16, inRate{1 << 31, 1 << 31, 1<<32 - 1}},
	} {
		if got := newInRate(tc.perSecond, tc.maxMessage, 100*time.Millisecond); got != tc.want {
			t.Errorf("%d bytes a second: %+v, want %+v", tc.perSecond, got, tc.want)
		}
	}
}

// Floods of what is little to send: each is read at the rate that it may have,
// none of it is lost, and others do not notice.
func TestFloodsAreThrottled(t *testing.T) {
	const pings, fragments = 20_000, 65_536
	for _, tc := range []struct {
		name   string
		frames int
		flood  []byte
		last   func(c *client)
	}{
		{"empty fragments", fragments,
			join(fragment(ws.OpText, false, "all"), bytes.Repeat(fragment(ws.OpContinuation, false, ""), fragments), fragment(ws.OpContinuation, true, " there")),
			func(c *client) { c.wantText("all there") }},
		{"pings", pings, bytes.Repeat(masked(ws.OpPing, ""), pings), func(c *client) {
			for range pings {
				c.want(ws.OpPong, nil)
			}
		}},
		{"small messages", pings, bytes.Repeat(maskedText("x"), pings), func(c *client) {
			for range pings {
				c.wantText("x")
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sh := startShard(t, &script{}, func(s *settings) {
				s.ByteRate = (len(tc.flood) + frameCost*tc.frames) / 6 // of which four seconds' worth come at once
				s.MaxMessage = 1024
			})
			other := sh.open()
			c := sh.open()
			sent := make(chan error, 1)
			go func() { _, err := c.Write(tc.flood); sent <- err }()
			until(t, "it is throttled", func() bool { return sh.Counts().Throttled > 0 })
			other.wantNothing()
			tc.last(c)
			if err := <-sent; err != nil {
				t.Errorf("the flood was cut off: %v", err)
			}
			c.send(maskedClose(1000, ""))
			c.wantClose(1000)
			sh.wantClosed(ReasonClientClosed, 1)
		})
	}
}

// Of TLS it is not what the records come to that counts, but the records.
func TestSmallRecordsAreThrottled(t *testing.T) {
	a := newAuthority(t)
	bothVersions(t, func(t *testing.T, version func(*tls.Config)) {
		sh := startShard(t, &script{}, a.withTLS, func(s *settings) { s.ByteRate, s.MaxMessage = 1000, 1024 })
		c := sh.openTLS(a.trust(version))
		text := strings.Repeat("x", 300)
		sh.whileItWaits(func() { // however slow this machine is, all of it is there at once
			for _, b := range []byte(maskedText(text)) {
				c.send([]byte{b}) // a record of its own
			}
		})
		c.wantText(text)
		until(t, "it is throttled", func() bool { return sh.Counts().Throttled > 0 }) // published when the turn ends
		c.send(maskedClose(1000, ""))
		c.wantClose(1000)
	})
}

// A throttled client that goes is noticed at once, and one that is closed is
// heard out.
func TestEndOfTheThrottled(t *testing.T) {
	sh := startShard(t, &script{}, quickly, func(s *settings) { s.ByteRate, s.MaxMessage = 1000, 1024 })
	throttled := func() (*client, poller.Token) {
		before := sh.Counts().Throttled
		c := sh.open()
		id := look(sh, func() poller.Token { return sh.script.newID })
		c.send(bytes.Repeat(masked(ws.OpPong, ""), 100))
		until(t, "it is throttled", func() bool { return sh.Counts().Throttled > before })
		return c, id
	}
	c, _ := throttled()
	c.reset()
	sh.wantClosed(ReasonClientGone, 1)

	c, id := throttled()
	sh.do(func() { sh.Close(id, ReasonKicked) })
	c.wantClose(4003)
	c.Close()
	sh.wantClosed(ReasonKicked, 1)
	sh.wantEmpty()
}

func TestUnlimitedIsNotThrottled(t *testing.T) {
	sh := startShard(t, &script{}, func(s *settings) {
		s.ByteRate, s.MaxMessage = 1000, 1024
		s.Gate = gate.New(gate.Limits{Unlimited: networksOf("127.0.0.0/8")})
	})
	c := sh.open()
	for range 50 {
		c.send(bytes.Repeat(masked(ws.OpPong, ""), 100))
		c.wantNothing()
	}
	if n := sh.Counts().Throttled; n != 0 {
		t.Errorf("throttled %d times", n)
	}
}
