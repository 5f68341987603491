package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// stream is a client of Server-Sent Events as the standard has it (WHATWG HTML,
// 9.2.6).
type stream struct {
	t      testing.TB
	conn   net.Conn
	r      *bufio.Reader
	status int
	header http.Header
	body   string // where it was refused

	lastID   string
	retry    string
	comments int
}

// heard is one event.
type heard struct {
	typ  string // "": a message
	data string
	id   string // lastID by then
	message
}

// events opens a stream with header lines "Name: value".
func (r *running) events(query string, lines ...string) *stream {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		r.t.Fatal(err)
	}
	return eventsOver(r.t, c, query, lines...)
}

func eventsOver(t testing.TB, c net.Conn, query string, lines ...string) *stream {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	s := &stream{t: t, conn: c, r: bufio.NewReader(c)}
	s.ask("GET", "/sse?"+query, append(lines, "Host: localhost")...)
	answer, err := http.ReadResponse(s.r, nil)
	if err != nil {
		t.Fatalf("instead of a response: %v", err)
	}
	if s.status, s.header = answer.StatusCode, answer.Header; s.status != 200 {
		body, _ := io.ReadAll(answer.Body)
		s.body = string(body)
	}
	return s
}

func (s *stream) ask(method, target string, lines ...string) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.conn, "%s %s HTTP/1.1\r\n%s\r\n\r\n", method, target, strings.Join(lines, "\r\n")); err != nil {
		s.t.Fatal(err)
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
}

// subscribedTo is events with its welcome and the replies to its topics.
func (r *running) subscribedTo(topics ...string) *stream {
	r.t.Helper()
	s := r.events("topic=" + strings.Join(topics, "&topic="))
	s.want("welcome")
	for range topics {
		s.want("subscribed")
	}
	return s
}

// tryNext reads the next event. Its error is io.EOF at the end of the stream.
func (s *stream) tryNext() (e heard, err error) {
	data := ""
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return e, err
	}
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data != "":
			e.data, e.id = strings.TrimSuffix(data, "\n"), s.lastID
			_ = json.Unmarshal([]byte(e.data), &e.message) // of the raw format it need be none
			return e, nil
		case line == "":
			e.typ = ""
		case field == "":
			s.comments++
		case field == "event":
			e.typ = value
		case field == "data":
			data += value + "\n"
		case field == "id":
			s.lastID = value
		case field == "retry":
			s.retry = value
		default:
			s.t.Fatalf("a line that is no field: %q", line)
		}
	}
}

func (s *stream) next() heard {
	s.t.Helper()
	e, err := s.tryNext()
	if err != nil {
		s.t.Fatalf("waiting for an event: %v", err)
	}
	return e
}

// want reads the next event, which is to be of a type; "message" is the default.
func (s *stream) want(typ string) heard {
	s.t.Helper()
	if s.status != 200 {
		s.t.Fatalf("refused: %d %s", s.status, s.body)
	}
	e := s.next()
	if e.typ != typ && !(typ == "message" && e.typ == "") || e.Type != typ {
		s.t.Fatalf("event %q with %s, want %s", e.typ, e.data, typ)
	}
	return e
}

// wantNumbers reads messages of a topic that carry numbers.
func (s *stream) wantNumbers(topic string, from, to int) (last heard) {
	s.t.Helper()
	for n := from; n <= to; n++ {
		last = s.want("message")
		if last.Topic != topic || string(last.Data) != fmt.Sprint(n) || last.id != last.Cursor+"@"+topic {
			s.t.Fatalf("event %q with id %q: %s, want %s = %d", last.typ, last.id, last.data, topic, n)
		}
	}
	return last
}

// wantClose reads up to the last event, behind which the stream ends.
func (s *stream) wantClose(code int, reason string) {
	s.t.Helper()
	for {
		if e := s.next(); e.typ == "close" {
			if want := fmt.Sprintf(`{"type":"close","code":%d,"reason":%q}`, code, reason); e.data != want {
				s.t.Fatalf("closed with %s, want %s", e.data, want)
			}
			break
		}
	}
	if _, err := s.tryNext(); err != io.EOF {
		s.t.Fatalf("behind close: %v, want the end", err)
	}
}
