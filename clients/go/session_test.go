package pushd_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/peertest"
)

const testSecret = "a secret of 32 bytes or more, so."

// tokenFor makes a token that ends after a while, and permits namespace kept.
func tokenFor(t testing.TB, life time.Duration) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "alice", "exp": time.Now().Add(life).Unix(), "jti": strconv.FormatInt(time.Now().UnixNano(), 36),
		"pushd": map[string]any{"subscribe": []string{"kept.>"}, "publish": []string{"kept.>"}},
	}).SignedString([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func guarded(t testing.TB) *node {
	return start(t, func(cfg *config.Config) { cfg.TokenSecret, cfg.TokenLeeway = testSecret, 0 })
}

// A token that ended is replaced on the next connection; one that is bad and the
// only one ends the client.
func TestTokenRefused(t *testing.T) {
	t.Parallel()
	n := guarded(t)
	tokens := []string{tokenFor(t, -time.Hour), tokenFor(t, time.Hour)}
	var asked atomic.Int32
	c, _ := connect(t, n.url(), func(o *pushd.Options) {
		o.Token = func(context.Context) (string, error) { return tokens[min(1, int(asked.Add(1))-1)], nil }
	})
	subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
	_, err := c.Subscribe(testContext(t), "secret.a", pushd.SubscribeOptions{})
	if codeOf(err) != "forbidden" {
		t.Errorf("subscribe: %v", err)
	}
	if _, err = c.Publish(testContext(t), "secret.a", nil, pushd.PublishOptions{}); codeOf(err) != "forbidden" {
		t.Errorf("publish: %v", err)
	}
	for name, token := range map[string]func(context.Context) (string, error){
		"bad":  func(context.Context) (string, error) { return tokens[0], nil },
		"none": nil,
	} {
		c, err := pushd.Dial(testContext(t), n.url(), pushd.Options{Token: token})
		if name == "none" && err == nil {
			c.Close()
			continue // the server waits for one, and closes with 4001 later
		}
		var no *pushd.Error
		if !errors.As(err, &no) || no.Status != http.StatusUnauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No token, and none that could be had, is 4001 and the end.
func TestNoToken(t *testing.T) {
	t.Parallel()
	n := start(t, func(cfg *config.Config) { cfg.TokenSecret, cfg.AuthTimeout = testSecret, 100*time.Millisecond })
	c, told := connect(t, n.url())
	await(t, "the end", func() bool { state, _ := c.State(); return state == pushd.Closed })
	_, err := c.State()
	var closed *pushd.CloseError
	if !errors.As(err, &closed) || closed.Code != 4001 {
		t.Errorf("it ended with %v", err)
	}
	if _, again := c.Publish(testContext(t), "a", nil, pushd.PublishOptions{}); again != err {
		t.Errorf("publish: %v", again)
	}
	if n := count[*pushd.StateChange](told, func(e *pushd.StateChange) bool { return e.State == pushd.Connecting }); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// Gaps stand where messages are missing, and the iteration goes on behind them.
func TestGaps(t *testing.T) {
	t.Parallel()
	url := peertest.Start(t, func(p *peertest.Peer) {
		p.Greet()
		p.Want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.0"}`)
		p.Send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.5","recovered":false,"reason":"expired"}`)
		p.Keep("a.b", "k.6")
		p.Send(`{"type":"gap","topic":"a.b","from":"k.6","to":"k.8","reason":"slow"}`)
		p.Send(`{"type":"gap","topic":"a.b","from":"k.8","to":"k.9","reason":"slow"}`)
		p.Send(`{"type":"skipped","topic":"a.b","count":3}`)
		p.Keep("a.b", "k.10")
		p.WantClose(ws.StatusNormalClosure)
	})
	c, told := connect(t, url)
	s := subscribe(t, c, "a.b", pushd.SubscribeOptions{Cursor: "k.0"})
	await(t, "all of it", func() bool { return s.Buffered() == 2 })
	var gaps []pushd.Gap
	var at []string
	for m, err := range s.Messages(testContext(t)) {
		var gap *pushd.Gap
		if errors.As(err, &gap) {
			gaps = append(gaps, *gap)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if at = append(at, m.Cursor+" "+strconv.Itoa(m.Skipped)); len(at) == 2 {
			break
		}
	}
	if len(at) != 2 || at[0] != "k.6 0" || at[1] != "k.10 3" {
		t.Errorf("messages %q", at)
	}
	want := []pushd.Gap{{Topic: "a.b", To: "k.5", Reason: "expired", Resumed: true}, {Topic: "a.b", From: "k.6", To: "k.9", Reason: "slow"}}
	if len(gaps) != 2 || gaps[0] != want[0] || gaps[1] != want[1] {
		t.Errorf("gaps %+v, want %+v", gaps, want)
	}
	if n := count[*pushd.Gap](told, nil); n != 3 || count[*pushd.Skipped](told, nil) != 1 {
		t.Errorf("told of %d gaps, want 3", n)
	}
}

// A server that limits commands is not asked for more than it takes. It is the
// only test meanwhile: commands that come slowly are within the limit.
func TestRateLimited(t *testing.T) {
	const topics = 100
	n := start(t, func(cfg *config.Config) {
		cfg.MaxCommandRate = 50 // and ten seconds' worth at once
		cfg.Unlimited = nil
	})
	c, told := connect(t, n.url())
	for range 450 { // which leaves some of that
		if _, err := c.Presence(testContext(t), "a"); err != nil {
			t.Fatal(err)
		}
	}
	var all []pushd.Position
	for k := range topics {
		all = append(all, pushd.Position{Topic: "kept.t" + strconv.Itoa(k)})
	}
	s, err := c.SubscribeAll(testContext(t), all, pushd.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the last", func() bool {
		return !slices.ContainsFunc(s.Positions(), func(p pushd.Position) bool { return p.Cursor == "" })
	})
	if n := count[*pushd.Refused](told, nil); n == 0 || n > 128 {
		t.Errorf("%d were refused for now, of which some have to be, and 128 end the connection", n)
	}
	if state, err := c.State(); state != pushd.Open || err != nil {
		t.Errorf("the client is %v, %v", state, err)
	}
}

// Frames as RFC 6455 allows them, and as it does not.
func TestFrames(t *testing.T) {
	t.Parallel()
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = 'x'
	}
	url := peertest.Start(t, func(p *peertest.Peer) {
		p.Welcome()
		p.Send(`{"type":"message","topic":"a.b","time":0,"data":"%s"}`, big)
		p.Send(`{"data":{"type":"x"},"later":[null],"time":0,"topic":"a\u002eb","type":"message"}`)
		if err := ws.WriteFrame(p.Conn, ws.NewTextFrame([]byte("\xff"))); err != nil {
			t.Error(err)
		}
		p.WantClose(ws.StatusInvalidFramePayloadData)
	}, func(p *peertest.Peer) {
		p.Welcome()
		if err := ws.WriteHeader(p.Conn, ws.Header{Fin: true, OpCode: ws.OpText, Length: 1 << 40}); err != nil {
			t.Error(err)
		}
		p.WantClose(ws.StatusMessageTooBig)
	}, func(p *peertest.Peer) {
		p.Welcome()
		p.Message(1)
		p.WantClose(ws.StatusNormalClosure)
	})
	c, _ := connect(t, url)
	s := subscribe(t, c, "a.b", pushd.SubscribeOptions{})
	for _, want := range []int{len(big) + 2, len(`{"type":"x"}`), len(`{"n":1}`)} {
		m, err := s.Next(testContext(t))
		for isGap(err, "disconnected") { // it has no history, and was away
			m, err = s.Next(testContext(t))
		}
		if err != nil || len(m.Data) != want {
			t.Errorf("%d bytes, %v; want %d", len(m.Data), err, want)
		}
	}
}
