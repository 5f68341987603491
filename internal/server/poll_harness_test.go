package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// poller is a client that polls on one connection, as long as that is kept.
type pollClient struct {
	t       testing.TB
	conn    net.Conn
	read    *bufio.Reader
	address string
	dial    func() (net.Conn, error)
	query   string // of topics and what else is the same in each poll
	cursor  string
	lines   string // header lines
}

// polledAnswer is what a poll got.
type polledAnswer struct {
	status   int
	header   http.Header
	Messages []polledObject
	Cursor   string
	Code     string // of a refusal
	Message  string
}

// polledObject is one of its messages. The code of `close` is a number.
type polledObject struct {
	message
	CloseCode int `json:"code"`
}

// poller makes a client; topics are those of its query.
func (r *running) poller(topics ...string) *pollClient {
	q := url.Values{"topic": topics}
	p := &pollClient{t: r.t, address: r.Addr(), query: q.Encode()}
	p.dial = func() (net.Conn, error) { return net.DialTimeout("tcp", p.address, patience) }
	r.t.Cleanup(p.close)
	return p
}

func (p *pollClient) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

// open connects unless it is.
func (p *pollClient) open() error {
	if p.conn != nil {
		return nil
	}
	c, err := p.dial()
	if err != nil {
		return err
	}
	p.conn, p.read = c, bufio.NewReader(c)
	return nil
}

// request is one poll, which goes on from the last answer.
func (p *pollClient) request(more string) string {
	q := p.query
	if p.cursor != "" {
		q += "&cursor=" + url.QueryEscape(p.cursor)
	}
	if more != "" {
		q += "&" + more
	}
	return "GET /poll?" + q + " HTTP/1.1\r\nHost: x\r\n" + p.lines + "\r\n"
}

// try polls. The cursor moves with the answer.
func (p *pollClient) try(more string) (a polledAnswer, err error) {
	if err := p.open(); err != nil {
		return a, err
	}
	if _, err := io.WriteString(p.conn, p.request(more)); err != nil {
		p.close()
		return a, err
	}
	return p.answer()
}

// answer reads one.
func (p *pollClient) answer() (a polledAnswer, err error) {
	p.conn.SetReadDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(p.read, nil)
	if err != nil {
		p.close()
		return a, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.close()
		return a, err
	}
	a.status, a.header = resp.StatusCode, resp.Header
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("%q: %w", body, err)
	}
	if resp.Close {
		p.close()
	}
	if a.status == 200 {
		p.cursor = a.Cursor
	}
	return a, nil
}

// poll polls, and wants an answer.
func (p *pollClient) poll(more string) polledAnswer {
	p.t.Helper()
	a, err := p.try(more)
	if err != nil {
		p.t.Fatalf("poll: %v", err)
	}
	if a.status != 200 {
		p.t.Fatalf("poll: %d %s %s", a.status, a.Code, a.Message)
	}
	return a
}

// wants polls once, and compares what comes: "topic data", or "gap topic reason".
func (p *pollClient) wants(more string, want ...string) {
	p.t.Helper()
	if got := p.poll(more).words(); strings.Join(got, ", ") != strings.Join(want, ", ") {
		p.t.Errorf("poll got %q, want %q", got, want)
	}
}

// gathers polls until as much has come as it wants.
func (p *pollClient) gathers(want ...string) {
	p.t.Helper()
	var got []string
	for len(got) < len(want) {
		a := p.poll("wait=20")
		if got = append(got, a.words()...); len(a.Messages) == 0 {
			break
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		p.t.Errorf("polls got %q, want %q", got, want)
	}
}

// words says what an answer has.
func (a polledAnswer) words() (list []string) {
	for _, m := range a.Messages {
		switch m.Type {
		case "message":
			list = append(list, m.Topic+" "+string(m.Data))
		case "skipped":
			list = append(list, fmt.Sprintf("skipped %s %d", m.Topic, m.Count))
		default:
			list = append(list, strings.TrimSpace(m.Type+" "+m.Topic+" "+m.Reason))
		}
	}
	return list
}

// refused polls on a connection of its own, and wants a status and a code.
func (p *pollClient) refused(more string, status int, code string) polledAnswer {
	p.t.Helper()
	a, err := p.try(more)
	if err != nil || a.status != status || a.Code != code {
		p.t.Errorf("poll %s: %d %s %q, %v; want %d %s", more, a.status, a.Code, a.Message, err, status, code)
	}
	return a
}
