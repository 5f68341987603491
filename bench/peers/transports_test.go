package peers_test

import (
	"bufio"
	"compress/flate"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A peer with -compress sends who offers it messages that are compressed each by itself.
func TestCompresses(t *testing.T) {
	for _, p := range peers(t) {
		if len(p.Compress) == 0 {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			p.start(t, p.Compress...)
			c := p.dialDeflated(t)
			c.write(maskedFrame(1, strings.NewReplacer("{id}", "2", "{topic}", "a").Replace(p.Target.Subscribe)), 1)
			for text := ""; !strings.Contains(text, p.Target.SubscribedMark); {
				text, _ = c.inflated()
			}
			in := p.publisher(t)
			for i := range 3 {
				want := `{"x":"` + strings.Repeat("price", 200+i) + `"}`
				send(t, in, publication("a", want))
				if got, packed := c.inflated(); !strings.Contains(got, want) || packed > len(want)/4 {
					t.Errorf("%d bytes of a message: %.100q", packed, got)
				}
			}
		})
	}
}

// dialDeflated opens a connection that offers compression.
func (p *peer) dialDeflated(t *testing.T) *client {
	t.Helper()
	hello := p.Target.Hello
	p.Target.Hello = "" // its answer may be compressed
	c := p.dial(t, 1, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover")
	if p.Target.Hello = hello; hello != "" {
		c.write(maskedFrame(1, hello), 1)
		c.inflated()
	}
	return c
}

// inflated returns the next text, compressed or not, and its length on the wire.
func (c *client) inflated() (text string, length int) {
	c.t.Helper()
	first, payload := c.frame()
	if first != 0xc1 {
		return payload, len(payload)
	}
	plain, err := io.ReadAll(flate.NewReader(strings.NewReader(payload + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	if err != nil {
		c.t.Fatalf("%s: %q: %v", c.peer.Name, payload, err)
	}
	return string(plain), len(payload)
}

// A stream of Server-Sent Events has the messages of its topic.
func TestEvents(t *testing.T) {
	for _, p := range peers(t) {
		if p.Events.URL == "" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			p.start(t)
			at := strings.TrimSuffix(strings.TrimPrefix(p.ws, "ws://"), "/ws")
			response, err := http.Get(strings.NewReplacer("{ws}", at, "{topic}", "a").Replace(p.Events.URL))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			lines := bufio.NewScanner(response.Body)
			next := func(want string) {
				t.Helper()
				for lines.Scan() {
					if strings.Contains(lines.Text(), want) {
						return
					}
				}
				t.Fatalf("%s: no %q (%v)", p.Name, want, lines.Err())
			}
			next(p.Events.SubscribedMark)
			in := p.publisher(t)
			send(t, in, numbered("b", 0, 2)...)
			send(t, in, numbered("a", 0, 3)...)
			for i := range 3 {
				next(payload("a", i))
			}
		})
	}
}
