package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/config"
)

// limited makes loopback an address like any other.
func limited(c *config.Config) { c.Unlimited = []string{"none"} }

func TestClientSize(t *testing.T) {
	if size := unsafe.Sizeof(client{}); size != 16 {
		t.Errorf("a client is %d bytes beside its slot, want 16", size)
	}
}

// hint is an error reply with its advice.
type hint struct {
	Type, Code, Message string
	ID                  int
	RetryAfter          int `json:"retry_after"`
}

func (s *socket) hint() (h hint) {
	s.t.Helper()
	f := s.next()
	if err := json.Unmarshal(f.Payload, &h); err != nil {
		s.t.Fatalf("received %q: %v", f.Payload, err)
	}
	return h
}

// A client that sends commands too fast is told so, and when; one that takes no
// notice is closed, and others are served.
func TestCommandRate(t *testing.T) {
	r := start(t, limited, func(c *config.Config) { c.MaxCommandRate = 1 })
	other := r.subscribed("a.b")
	s := r.subscribed()
	const burst = 10
	for i := range burst + maxRateStrikes + 20 { // as many more as the time may allow for
		s.send(fmt.Sprintf(`{"type":"ping","id":%d}`, i))
	}
	for i := range burst {
		if m := s.want("pong"); string(m.ID) != fmt.Sprint(i) {
			t.Fatalf("answer %d is to %s", i, m.ID)
		}
	}
	h := s.hint()
	for h.Type == "pong" {
		h = s.hint()
	}
	if h.Code != "rate_limited" || h.ID < burst || h.RetryAfter < 1 || h.RetryAfter > 1000 || !strings.Contains(h.Message, "--max-command-rate") {
		t.Errorf("beyond the burst: %+v", h)
	}
	if code := s.wantClose(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	eventually(t, "it is counted", func() bool {
		return strings.Contains(r.adminGet("/metrics"), `pushd_connections_closed_total{reason="rate"} 1`)
	})
	r.http("POST", "/publish/a.b", "", "1")
	other.wantData("a.b", "1")
}

// Malformed commands count as well, so that no mixture of the two goes on for ever.
func TestCommandRateOfNonsense(t *testing.T) {
	r := start(t, limited, func(c *config.Config) { c.MaxCommandRate = 1 })
	s := r.subscribed()
	for i := range 10 + maxRateStrikes + 20 {
		if i%2 == 0 {
			s.send(`{"type":"ping"}`)
		} else {
			s.send(`{"type":`)
		}
	}
	if code := s.wantClose(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
}

// Very many topics in one command are not one command.
func TestSubscriptionFlood(t *testing.T) {
	r := start(t, limited, func(c *config.Config) { c.MaxCommandRate = 1 })
	s := r.subscribed()
	var topics []string
	for i := range 1000 {
		topics = append(topics, fmt.Sprintf("%q", fmt.Sprintf("a.t%d", i)))
	}
	all := strings.Join(topics, ",")
	s.send(`{"type":"subscribe","id":1,"topics":[` + all + `]}`) // which is 63 commands of a burst of 10
	for range topics {
		s.want("subscribed")
	}
	s.send(`{"type":"unsubscribe","id":2,"topics":[` + all + `]}`)
	if h := s.hint(); h.Code != "rate_limited" || h.ID != 2 || h.RetryAfter < 10_000 {
		t.Errorf("the second: %+v", h)
	}
}

func TestPublishRate(t *testing.T) {
	r := start(t, limited, func(c *config.Config) { c.MaxPublishRate = 1 })
	s := r.subscribed()
	codes := map[string]int{}
	for i := range 15 {
		s.send(fmt.Sprintf(`{"type":"publish","id":%d,"topic":"a.b","data":1}`, i))
	}
	for range 15 {
		h := s.hint()
		codes[h.Type+h.Code]++
		if h.Code != "" && (h.RetryAfter < 1 || !strings.Contains(h.Message, "--max-publish-rate")) {
			t.Errorf("told %+v", h)
		}
	}
	if codes["published"] < 10 || codes["errorrate_limited"] == 0 || len(codes) != 2 {
		t.Errorf("answers %v; want a burst of 10 and refusals", codes)
	}
	s.send(`{"type":"ping"}`)
	s.want("pong") // commands have another rate

	// Over HTTP it is of an address.
	accepted, refused := 0, 0
	for accepted+refused < 15 || refused == 0 {
		switch status, header, text := r.http("POST", "/publish/a.b", "", "1"); {
		case status == 429 && header.Get("Retry-After") != "" && strings.Contains(text, `"code":"rate_limited"`):
			refused++
		case status == 202 && accepted < 100:
			accepted++
		default:
			t.Fatalf("%d %v %s", status, header, text)
		}
	}
	if accepted < 10 {
		t.Errorf("%d of %d were accepted, less than a burst", accepted, accepted+refused)
	}
	if status, _, text := r.http("POST", "/publish", "application/x-ndjson", `{"topic":"a.b","data":1}`); status != 429 {
		t.Errorf("NDJSON: %d %s", status, text)
	}
	if !strings.Contains(r.adminGet("/metrics"), `pushd_http_refusals_total{status="429"} `+fmt.Sprint(refused+1)+"\n") {
		t.Error("it is not counted")
	}
}

// Lines are slowed down, and none is refused.
func TestPublishRateOfLines(t *testing.T) {
	r := start(t, limited, func(c *config.Config) { c.MaxPublishRate = 2000 })
	const lines = 24_000 // 20,000 at once, then two seconds
	status, _, text := r.http("POST", "/publish", "application/x-ndjson", strings.Repeat(`{"topic":"a.b","data":1}`+"\n", lines))
	if n := strings.Count(text, `{"topic":"a.b"}`); status != 200 || n != lines {
		t.Errorf("%d, and %d of %d lines were published", status, n, lines)
	}
}

// Who is unlimited, as loopback is by default, notices none of it.
func TestUnlimited(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.MaxCommandRate, c.MaxPublishRate, c.MaxByteRate, c.ConnectionRatePerAddress, c.HandshakeRate, c.MaxConnectionsPerAddress = 1, 1, 1, 1, 1, 1
	})
	for range 20 {
		s := r.subscribed()
		for range 20 {
			s.send(`{"type":"publish","topic":"a.b","data":1}`)
			s.want("published")
		}
		if status, _, text := r.http("POST", "/publish/a.b", "", "1"); status != 202 {
			t.Fatalf("%d %s", status, text)
		}
	}
}
