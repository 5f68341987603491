package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/config"
)

type connectionPage struct {
	Open        int
	Connections []connectionInfo
	Requests    []requestInfo
	Next        string
}

func (r *running) connections(query string) (page connectionPage) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.adminGet("/connections?"+query)), &page); err != nil {
		r.t.Fatal(err)
	}
	return page
}

// welcomed opens a WebSocket and returns its name too.
func (r *running) welcomed(topics ...string) (*socket, string) {
	r.t.Helper()
	s := r.dial("")
	name := s.want("welcome").Client
	for _, topic := range topics {
		s.subscribe(topic)
	}
	return s, name
}

// TestConnectionsPages reads connections of all shards in small pages: each
// comes once.
func TestConnectionsPages(t *testing.T) {
	r := start(t)
	var want []string
	for range 41 {
		_, name := r.welcomed()
		want = append(want, name)
	}
	slices.Sort(want)
	for _, limit := range []int{1, 7, 40, 41, 10_000} {
		var got []string
		after, pages := "", 0
		for {
			page := r.connections(fmt.Sprintf("limit=%d&after=%s", limit, after))
			if len(page.Connections) > limit || page.Open != len(want) {
				t.Fatalf("%d connections of %d, limit %d", len(page.Connections), page.Open, limit)
			}
			for _, c := range page.Connections {
				got = append(got, c.Client)
			}
			pages++
			if after = page.Next; after == "" {
				break
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d names, want %d, each once", limit, len(got), len(want))
		}
		if most := (len(want)+limit-1)/limit + 1; pages > most {
			t.Errorf("limit %d: %d pages, of at most %d", limit, pages, most)
		}
	}
}

func TestConnectionsFilters(t *testing.T) {
	r := secure(t)
	a, first := r.welcomedAs("alice", "stocks.AAPL", "chat.lobby")
	_, second := r.welcomedAs("bob/eu", "stocks.*")
	_, third := r.welcomedAs("alice", "stocks.eu.>")
	f := func(query string, want ...string) {
		t.Helper()
		var got []string
		for _, c := range r.connections(query).Connections {
			got = append(got, c.Client)
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	f("", first, second, third)
	f("topic=stocks.AAPL", first, second)
	f("topic=stocks.eu.sap", third)
	f("topic=nobody")
	f("pattern=stocks.*", second)
	f("pattern=stocks.AAPL", first)
	f("topic=stocks.AAPL&pattern=chat.lobby", first)
	f("identity=alice", first, third)
	f("identity="+url.QueryEscape("bob/eu"), second)
	f("identity=alic")
	f("identity=alice&topic=stocks.eu.sap", third)
	f("address=127.0.0.1", first, second, third)
	f("address=127.0.0.0/8", first, second, third)
	f("address=::ffff:127.0.0.1", first, second, third)
	f("address=192.0.2.1")
	f("address=::/0")
	if c := r.connections("pattern=chat.lobby").Connections[0]; c.Identity != "alice" || c.Peer != a.conn.LocalAddr().String() {
		t.Errorf("shown as %+v", c)
	}
	for _, query := range []string{"limit=0", "limit=10001", "after=x", "after=9-0", "after=0-", "after=-1-5", "address=x", "address=1.2.3.4/99", "topic=a.*", "pattern=*", "topic=" + strings.Repeat("x", 300)} {
		if status, _, body := r.request("GET", "http://"+r.AdminAddr()+"/connections?"+query, "", ""); status != 400 {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// welcomedAs is welcomed for a client with a token.
func (r *running) welcomedAs(identity string, topics ...string) (*socket, string) {
	r.t.Helper()
	a := r.upgrade("", "Authorization: Bearer "+tokenFor(r.t, identity, may{subscribe: ">"}, time.Minute))
	if a.socket == nil {
		r.t.Fatalf("%s is refused: %d %s", identity, a.status, a.body)
	}
	name := a.socket.want("welcome").Client
	for _, topic := range topics {
		a.socket.subscribe(topic)
	}
	return a.socket, name
}

// TestWalkSlices sees more connections than one slice has, without missing or
// repeating one, and stops where it is told.
func TestWalkSlices(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Shards = 1 })
	const crowd = walkSlice + 50
	for range crowd {
		r.dial("")
	}
	eventually(t, "all are open", func() bool { return r.quota.Open() == crowd })
	for _, most := range []int{10, walkSlice, walkSlice + 1, crowd, crowd + 1} {
		seen := map[string]int{}
		at := place{}
		for {
			n := 0
			next, err := r.walk(t.Context(), at, func(sh *shard, c conn.Info) bool {
				seen[sh.server.clientName(sh, c.ID)]++
				n++
				return n < most
			})
			if err != nil {
				t.Fatal(err)
			}
			if at = next; at == (place{}) {
				break
			}
		}
		if len(seen) != crowd {
			t.Errorf("%d at a time: %d seen, of %d", most, len(seen), crowd)
		}
		for name, n := range seen {
			if n != 1 {
				t.Errorf("%s was seen %d times", name, n)
			}
		}
	}
}
