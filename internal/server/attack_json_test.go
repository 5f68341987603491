package server

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/topics"
)

// TestJSONTricks sends JSON that two readers could take for two things, or that
// costs a careless one its stack, by every way in. Nothing of it is obeyed,
// nothing but what is whole is passed on, and the connection goes on.
func TestJSONTricks(t *testing.T) {
	r := secure(t)
	token := tokenFor(t, "mallory", may{subscribe: "mine.>", publish: "mine.>"}, time.Hour)
	listener := r.signedIn(tokenFor(t, "all", may{subscribe: ">"}, time.Hour))
	for _, topic := range []string{"mine.>", "theirs.>"} {
		listener.subscribe(topic)
	}
	s := r.signedIn(token)
	deep := func(open, close string, n int) string { return strings.Repeat(open, n) + strings.Repeat(close, n) }
	for _, tc := range []struct{ command, code string }{
		{`{"type":"publish","topic":"mine.x","topic":"theirs.x","data":1}`, "bad_request"},
		{`{"type":"publish","topic":"theirs.x","topic":"mine.x","data":1}`, "bad_request"},
		{`{"type":"publish","topic":"mine.x","top\u0069c":"theirs.x","data":1}`, "bad_request"},
		{`{"type":"ping","type":"publish","topic":"mine.x","data":1}`, "bad_request"},
		{`{"type":"publish","Topic":"mine.x","data":1}`, "bad_request"},
		{`{"type":"publish","topic":"mine.x","data":1,"data":2}`, "bad_request"},
		{`{"type":"subscribe","topic":"mine.x","topics":["theirs.x"]}`, "bad_request"},
		{`{"type":"publish","topic":"mine.x","data":1}{"type":"publish","topic":"theirs.x","data":1}`, "bad_request"},
		{`{"type":"publish","topic":"mine.x","data":` + deep("[", "]", 30_000) + `}`, "bad_request"},
		{`{"type":"publish","topic":"mine.x","data":` + strings.Repeat(`{"a":`, 12_000) + `}`, "bad_request"},
		{deep("[", "]", 30_000), "bad_request"},
		{`{"type":"publish","topic":"mine.x","data":1e999999999}`, ""}, // a number like any other, passed on as it is
		{`{"type":"publish","topic":"theirs.x","data":1}`, "forbidden"},
	} {
		s.send(tc.command)
		if tc.code == "" {
			s.want("published")
			listener.wantData("mine.x", "1e999999999")
			continue
		}
		s.wantError(tc.code)
	}
	bearer := []string{"Authorization", "Bearer " + token}
	for _, line := range []string{
		`{"topic":"mine.x","topic":"theirs.x","data":1}`,
		`{"topic":"theirs.x","topic":"mine.x","data":1}`,
		`{"topic":"mine.x","data":` + deep("[", "]", 30_000) + `}`,
	} {
		if _, _, body := r.request("POST", "http://"+r.Addr()+"/publish", "application/x-ndjson", line+"\n", bearer...); !strings.Contains(body, `"code":`) {
			t.Errorf("%.80s: %s", line, body)
		}
	}
	for _, body := range []string{deep("[", "]", 30_000), strings.Repeat("[", 60_000), `{"a":1`, `1 2`} {
		if status, _, answer := r.request("POST", "http://"+r.Addr()+"/publish/mine.x", "application/json", body, bearer...); status != 400 && status != 202 {
			t.Errorf("%.20s…: %d %s", body, status, answer)
		} else if status == 202 { // it is text then, or whatever it is, within a string
			if m := listener.want("message"); m.Topic != "mine.x" || !json.Valid(m.Data) {
				t.Errorf("%.20s… is passed on as %.100s", body, m.Data)
			}
		}
	}
	s.send(`{"type":"publish","topic":"mine.x","data":"last"}`)
	s.want("published")
	listener.wantData("mine.x", `"last"`) // and nothing of the others
}

// FuzzOpening reads what an upgrade request says beside its path: a model finds
// the tokens, and whatever is refused is refused in valid HTTP and JSON.
func FuzzOpening(f *testing.F) {
	f.Add("topic=a.b&format=raw&token=x", "Bearer x", "pushd.token.x, pushd.v1.json")
	f.Add("topic=a&topic=b&cursor=&cursor=k/3&mode=latest&max_rate=2.5", "bearer  y ", "pushd.token.")
	f.Add("token=a&token=%61", "Basic eDp5", ",pushd.token.b,")
	f.Add("%zz", "Bearer ", "")
	f.Add("topic=%0d%0aX-Evil:1&format=\"", "Bearer a\r\nX-Evil: 1", "pushd.token.\"")
	f.Fuzz(func(t *testing.T, query, authorization, offered string) {
		open, refused := readOpening(&conn.Request{Query: query})
		q, err := url.ParseQuery(query)
		if refused != nil {
			r := refusal(0, refused)
			if text, err := json.Marshal(r.Message); err != nil || r.Status < 400 || r.Status > 499 || !json.Valid(text) {
				t.Fatalf("refused with %+v, %v", r, err)
			}
			return
		}
		if err != nil || !slices.Equal(open.topics, q["topic"]) || len(open.cursors) != 0 && len(open.cursors) != len(open.topics) {
			t.Fatalf("%q: %+v, %v", query, open, err)
		}
		for _, topic := range open.topics {
			if topics.CheckPattern(topic) == nil && strings.ContainsAny(topic, " \t\r\n\x00$/\\") {
				t.Fatalf("%q is taken for a topic", topic)
			}
		}

		want := map[string]bool{}
		for _, token := range q["token"] {
			want[token] = true
		}
		if scheme, token, ok := strings.Cut(authorization, " "); ok && strings.EqualFold(scheme, "bearer") {
			want[strings.TrimSpace(token)] = true
		}
		for _, entry := range strings.Split(offered, ",") {
			if entry = strings.Trim(entry, " \t"); strings.HasPrefix(entry, "pushd.token.") {
				want[entry[len("pushd.token."):]] = true
			}
		}
		delete(want, "")
		got := credentials(&conn.Request{Authorization: authorization, Offered: offered}, open.tokens)
		if got.conflict != (len(want) > 1) || len(want) == 1 && !want[got.Bearer] || len(want) == 0 && got.Credentials != (auth.Credentials{}) {
			t.Fatalf("found %+v of %v", got, want)
		}
	})
}
