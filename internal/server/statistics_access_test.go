package server

import (
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/statistics"
)

// TestReservedNamespace tries to hear what nodes say of themselves, and to speak
// in their place, by every way in.
func TestReservedNamespace(t *testing.T) {
	f := func(name string, r *running, query string, mayHear bool, headers ...string) {
		t.Helper()
		a := r.upgrade(query, headers...)
		if a.socket == nil {
			t.Fatalf("%s is refused: %d %s", name, a.status, a.body)
		}
		s := a.socket
		s.want("welcome")
		for _, topic := range []string{statistics.All, "_pushd.>", "_pushd.nodes.alpha", "_pushd"} {
			s.send(`{"type":"subscribe","topic":"` + topic + `"}`)
			m := s.receive()
			for m.Type == "message" {
				m = s.receive()
			}
			if heard := m.Type == "subscribed"; heard != mayHear && topic != "_pushd" || !heard && m.Code != "forbidden" {
				t.Errorf("%s subscribes to %s: %+v", name, topic, m)
			}
			s.send(`{"type":"presence","topic":"` + topic + `"}`)
			for m = s.receive(); m.Type == "message"; m = s.receive() {
			}
			if heard := m.Type == "presence"; heard != mayHear && topic != "_pushd" {
				t.Errorf("%s asks for presence on %s: %+v", name, topic, m)
			}
		}
		for _, topic := range []string{"_pushd.nodes.alpha", "_pushd.nodes.x", "_pushd", "_pushd.other"} {
			s.send(`{"type":"publish","topic":"` + topic + `","data":{"v":1}}`)
			m := s.receive()
			for m.Type == "message" {
				m = s.receive()
			}
			if m.Code != "forbidden" {
				t.Errorf("%s publishes to %s: %+v", name, topic, m)
			}
			for path, body := range map[string]string{"/publish/" + topic: "{}", "/publish": `{"topic":"` + topic + `","data":1}`} {
				status, _, answer := r.request("POST", "http://"+r.Addr()+path+"?"+query, "application/x-ndjson", body, split(headers)...)
				if status/100 == 2 && !strings.Contains(answer, "forbidden") && !strings.Contains(answer, "unauthorized") {
					t.Errorf("%s: POST %s with %s: %d %s", name, path, body, status, answer)
				}
			}
		}
		if status, _, answer := r.request("GET", "http://"+r.Addr()+"/history/_pushd.nodes.alpha?"+query, "", "", split(headers)...); status == 200 {
			t.Errorf("%s reads history: %s", name, answer)
		}
		s.conn.Close()
		if mayHear {
			return
		}
		for _, path := range []string{"/sse", "/poll"} {
			if status, _, answer := r.request("GET", "http://"+r.Addr()+path+"?wait=0&topic=_pushd.nodes.alpha&"+query, "", "", split(headers)...); status != 401 && status != 403 {
				t.Errorf("%s: GET %s: %d %s", name, path, status, answer)
			}
		}
	}
	named := func(c *config.Config) { c.NodeName = "alpha" }

	f("anybody without authentication", start(t, named), "", false)

	r := secure(t, named, func(c *config.Config) { c.Default.Public = config.PublicAll })
	f("nobody where all is public", r, "", false)
	bearer := func(m may) string { return "Authorization: Bearer " + tokenFor(t, "alice", m, time.Minute) }
	f("who may hear everything", r, "", false, bearer(may{subscribe: ">", publish: ">"}))
	f("who may hear everything, by a star", r, "", false, bearer(may{subscribe: "* *.> *.nodes.*", publish: "*.>"}))
	f("who may publish there, by a token", r, "", false, bearer(may{subscribe: "_pushdx.>", publish: "_pushd.>"}))
	f("who is permitted by name", r, "", true, bearer(may{subscribe: "_pushd.>", publish: "_pushd.> >"}))
}

// split makes "Name: value" two elements.
func split(headers []string) (pairs []string) {
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		pairs = append(pairs, name, value)
	}
	return pairs
}

// TestReservedSettings serves the namespace in its own way, whatever the others have.
func TestReservedSettings(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.Default.Interest, c.Default.MaxMessage, c.Default.BatchDelay = config.InterestTopic, 1, time.Second
	})
	s := r.operator()
	s.subscribe(statistics.All) // which no namespace of interest: topic has
	s.node()
}
