package server

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/config"
)

// A poll gets what came since the last one, and waits where there is nothing;
// nothing is lost between two, with history or without.
func TestPoll(t *testing.T) {
	r := start(t, keeping("orders"))
	nc := r.backend()
	publish := func(topic, data string) {
		t.Helper()
		if topic == "orders.eu" {
			r.store(topic, data)
			return
		}
		if err := nc.Publish("push."+topic, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for _, topic := range []string{"chat.lobby", "orders.eu"} {
		t.Run(topic, func(t *testing.T) {
			p := r.poller(topic)
			p.wants("wait=0")
			publish(topic, "1")
			p.wants("", topic+" 1")
			publish(topic, "2")
			publish(topic, "3")
			p.gathers(topic+" 2", topic+" 3")
			p.wants("wait=0.2") // nothing comes
			answered := make(chan polledAnswer, 1)
			go func() {
				a, err := p.try("")
				if err != nil {
					t.Error(err)
				}
				answered <- a
			}()
			r.waitPolls(1)
			publish(topic, "4")
			if got := (<-answered).words(); fmt.Sprint(got) != fmt.Sprint([]string{topic + " 4"}) {
				t.Errorf("the poll that waited got %q", got)
			}
			before := p.cursor
			publish(topic, "5")
			p.wants("", topic+" 5")
			p.cursor = before // the answer was lost
			p.wants("", topic+" 5")
		})
	}
}

// waitPolls waits until so many polls wait for their answer.
func (r *running) waitPolls(n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d polls wait", n), func() bool {
		var list struct{ Connections []connectionInfo }
		r.do(200, "GET", "/connections?limit=10000", &list)
		waiting := 0
		for _, c := range list.Connections {
			if c.State == "awaiting" && len(c.Subscriptions) > 0 {
				waiting++
			}
		}
		return waiting == n
	})
}

// One cursor stands for all topics of a request; overlapping ones bring a message once.
func TestPollSeveralTopics(t *testing.T) {
	r := start(t, keeping("orders"))
	p := r.poller("chat.a", "orders.*", "chat.*", "orders.x")
	p.wants("wait=0")
	if n := strings.Count(p.cursor, ","); n != 3 {
		t.Fatalf("the cursor of four topics is %q", p.cursor)
	}
	r.store("orders.x", "1")
	for _, data := range []string{"1", "2"} {
		r.http("POST", "/publish/chat.a", "", data)
	}
	r.http("POST", "/publish/chat.b", "", "3")
	var got []string
	eventually(t, "all came", func() bool { got = append(got, p.poll("wait=1").words()...); return len(got) >= 4 })
	for _, want := range []string{"orders.x 1", "chat.a 1", "chat.a 2", "chat.b 3"} {
		if n := strings.Count(strings.Join(got, ";")+";", want+";"); n != 1 {
			t.Errorf("%s came %d times in %q", want, n, got)
		}
	}
	p.wants("wait=0")

	places := strings.Split(p.cursor, ",")
	p.query, p.cursor = p.query+"&"+url.Values{"cursor": places}.Encode(), "" // one for each
	r.store("orders.x", "2")
	p.wants("", "orders.x 2")

	one := r.poller("orders.x")
	last := r.store("orders.x", "3")
	r.store("orders.x", "4")
	one.cursor = last // of a message
	one.wants("", "orders.x 4")
}

// mode and max_rate are those of any subscription.
func TestPollLatest(t *testing.T) {
	r := start(t, keeping("orders"))
	for i := range 5 {
		r.store("orders.x", fmt.Sprint(i))
	}
	p := r.poller("orders.*")
	p.query += "&mode=latest"
	p.wants("", "orders.x 4")
	for i := 5; i < 9; i++ {
		r.store("orders.x", fmt.Sprint(i))
	}
	p.wants("", "skipped orders.x 3", "orders.x 8")
	p.wants("wait=0")
	p.query += "&max_rate=20"
	r.store("orders.y", "1")
	r.store("orders.y", "2")
	p.wants("", "skipped orders.y 1", "orders.y 2")
}

// What cannot be resumed is told.
func TestPollGap(t *testing.T) {
	r := start(t, keeping("orders"), func(c *config.Config) { c.RingMessages = 8 })
	other := start(t)
	p, stranger := r.poller("chat.a"), other.poller("chat.a")
	p.wants("wait=0")
	stranger.wants("wait=0")
	for i := range 20 {
		r.http("POST", "/publish/chat.a", "", fmt.Sprint(i))
	}
	eventually(t, "all came", func() bool { return r.hub.Counts().Messages >= 20 })
	a := p.poll("")
	if got := a.words(); got[0] != "gap chat.a slow" || got[len(got)-1] != "chat.a 19" {
		t.Errorf("behind its ring it got %q", got)
	}
	p.cursor = stranger.cursor
	p.wants("wait=0", "gap chat.a restarted")
	r.http("POST", "/publish/chat.a", "", "20")
	p.wants("", "chat.a 20")

	p = r.poller("orders.x")
	r.store("orders.x", "1")
	p.cursor = "zzzz.1" // of a stream that is gone
	p.gathers("subscribed orders.x restarted", "orders.x 1")
	p.cursor = stranger.cursor // its namespace kept no history
	p.gathers("subscribed orders.x restarted", "orders.x 1")

	p = r.poller("chat.b")
	p.cursor = "zzzz.1"
	p.wants("wait=0", "gap chat.b expired")
}

// What is wrong with a request is a refusal.
func TestPollRefused(t *testing.T) {
	r := start(t, func(c *config.Config) { c.MaxSubscriptions = 3 })
	for _, tc := range []struct {
		query  string
		status int
		code   string
	}{
		{"", 400, "bad_request"},
		{"topic=", 400, "invalid_topic"},
		{"topic=a..b", 400, "invalid_topic"},
		{"topic=%zz", 400, "bad_request"},
		{"topic=a&format=raw", 400, "bad_request"},
		{"topic=a&wait=-1", 400, "bad_request"},
		{"topic=a&wait=61", 400, "bad_request"},
		{"topic=a&wait=NaN", 400, "bad_request"},
		{"topic=a&mode=some", 400, "bad_request"},
		{"topic=a&mode=all", 400, "no_history"},
		{"topic=a&max_rate=2", 400, "bad_request"},
		{"topic=a&cursor=nonsense", 400, "bad_request"},
		{"topic=a&cursor=1_", 400, "bad_request"},
		{"topic=a&cursor=0_1", 400, "bad_request"},
		{"topic=a&cursor=1.2&cursor=1.2", 400, "bad_request"},
		{"topic=a&cursor=1.2,1.2", 400, "bad_request"},
		{"topic=a&topic=b&cursor=1.2", 400, "bad_request"},
		{"topic=a&topic=b&cursor=1.2,3.4&cursor=1.2", 400, "bad_request"},
		{"topic=a&topic=b&topic=c&topic=d", 400, "too_many_topics"},
	} {
		p := r.poller()
		p.query = tc.query
		p.refused("wait=0", tc.status, tc.code)
	}
	p := r.poller("a")
	p.open()
	io.WriteString(p.conn, "GET /poll?topic=a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
	if a, err := p.answer(); err != nil || a.status != 400 {
		t.Errorf("a poll with a body: %d, %v", a.status, err)
	}
	r.wantMetric(`pushd_polls_total{result="refused"} 19`)
}
