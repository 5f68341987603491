package page

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/internal/browsertest"
)

// patience bounds every wait in these tests; nothing waits so long unless it fails.
const patience = 30 * time.Second

// stub stands for pushd: it serves the page, and hands what comes to the test.
type stub struct {
	*httptest.Server
	clients   chan *client
	published chan string // "topic body"
}

func startStub(t *testing.T) *stub {
	t.Helper()
	s := &stub{clients: make(chan *client, 8), published: make(chan string, 8)}
	mux := http.NewServeMux()
	mux.Handle("/", Handler())
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		upgrader := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == "pushd.v1.json" }}
		conn, _, shake, err := upgrader.Upgrade(r, w)
		if err != nil || shake.Protocol == "" {
			t.Errorf("upgrade with protocol %q: %v", shake.Protocol, err)
			return
		}
		s.clients <- &client{t: t, conn: conn}
	})
	mux.HandleFunc("POST /publish/{topic}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.published <- r.PathValue("topic") + " " + string(body)
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(r.PathValue("topic"), "secret.") {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"code":"forbidden","message":"no permission to publish to it"}`)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"topic":%q}`, r.PathValue("topic"))
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// client is one page's connection, as the server has it.
type client struct {
	t    *testing.T
	conn net.Conn
}

// accept waits for a page to connect, and welcomes it.
func (s *stub) accept(t *testing.T) *client {
	t.Helper()
	select {
	case c := <-s.clients:
		t.Cleanup(func() { c.conn.Close() })
		if err := c.conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
			t.Fatal(err)
		}
		c.send(`{"type":"welcome","protocol":1,"client":"c_1","heartbeat":25000,"max_message":65536}`)
		return c
	case <-time.After(patience):
		t.Fatal("no page connected")
		return nil
	}
}

func (c *client) send(messages ...string) {
	c.t.Helper()
	for _, m := range messages {
		if err := wsutil.WriteServerText(c.conn, []byte(m)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// message sends data, as JSON, on a topic.
func (c *client) message(topic, data string) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"type":"message","topic":%q,"time":1732212345678,"data":%s}`, topic, data))
}

// wantCommand wants a command of that type for each of these topics, in their
// order, and answers it.
func (c *client) wantCommand(kind string, topics ...string) {
	c.t.Helper()
	for _, topic := range topics {
		var command struct {
			ID          int
			Type, Topic string
		}
		for command.Type == "" || command.Type == "ping" { // it may look whether the connection is there
			b, err := wsutil.ReadClientText(c.conn)
			if err != nil {
				c.t.Fatalf("waiting for %s: %v", kind, err)
			}
			if err := json.Unmarshal(b, &command); err != nil {
				c.t.Fatal(err)
			}
		}
		if command.Type != kind || command.Topic != topic {
			c.t.Fatalf("the page sent %+v, want %s of %s", command, kind, topic)
		}
		c.send(fmt.Sprintf(`{"type":"%sd","topic":%q,"id":%d}`, kind, topic, command.ID))
	}
}

func (c *client) close(code ws.StatusCode) {
	c.t.Helper()
	if err := ws.WriteFrame(c.conn, ws.NewCloseFrame(ws.NewCloseFrameBody(code, ""))); err != nil {
		c.t.Fatal(err)
	}
}

// text is the JavaScript for the text of the first element that a selector finds.
func text(selector string) string {
	return fmt.Sprintf("document.querySelector(%q).textContent", selector)
}

// TestPage goes through a page's life in one browser, since that is slow to start.
func TestPage(t *testing.T) {
	s := startStub(t)
	b := browsertest.Start(t)
	page := b.Open(s.URL + "/?topic=stocks.*&topic=chat.lobby")
	c := s.accept(t)
	c.wantCommand("subscribe", "host.>", "stocks.*", "chat.lobby")
	page.Want(text("#state-text") + ` === "live"`)

	// Machines.
	sendMachine(c, "node1", 0)
	page.Want(text("#hosts h2") + ` === "node1"`)
	page.Want(text(`[data-metric=cpu] .headline`) + `.startsWith("42.5 %")`)
	page.Want(`document.querySelectorAll("[data-metric=cpu] [role=meter]").length === 2`)
	page.Want(`document.querySelector("[data-metric=cpu] [role=meter]").ariaValueNow === "80"`)
	page.Want(text(`[data-metric=memory] .headline`) + `.startsWith("2.0 GiB")`)
	page.Want(text(`[data-metric=load] .headline`) + `.startsWith("0.42")`)
	page.Want(text(`[data-metric=network] .headline`) + `.startsWith("1.5 MB/s")`)
	page.Want(text(`[data-metric=network] .details`) + `.includes("eth0")`)
	page.Want(text(`[data-metric=disk] .headline`) + `.startsWith("4.1 kB/s")`)
	page.Want(`[...document.querySelectorAll(".card")].map((c) => c.dataset.metric).join() === "cpu,memory,load,network,disk"`)
	sendMachine(c, "node1", 10)
	page.Want(text(`[data-metric=cpu] .headline`) + `.startsWith("52.5 %")`)
	page.Want(`document.querySelector("[data-metric=cpu] .spark path:last-child").getAttribute("d").split("L").length === 2`)

	// Nonsense on a metric's topic: whoever may publish may send anything.
	for _, data := range []string{`null`, `{}`, `7`, `{"busy_percent":"x","core_busy_percent":{"a":[]}}`, `{"interfaces":[null]}`} {
		c.message("host.node1.cpu", data)
		c.message("host.node1.network", data)
	}
	page.Want(text(`[data-metric=cpu] .headline`) + `.startsWith("–")`)

	// Other topics, in order, with markup that stays text.
	c.message("stocks.MSFT", `{"price":410.5}`)
	c.message("stocks.AAPL", `{"price":187.2}`)
	c.message("chat.lobby", `"<img src=x onerror=alert(1)>"`)
	c.send(`{"type":"message","topic":"stocks.BIN","time":1,"data":"AP8=","encoding":"base64"}`)
	page.Want(`[...document.querySelectorAll("#topics tbody td:first-child")].map((c) => c.textContent).join() === "chat.lobby,stocks.AAPL,stocks.BIN,stocks.MSFT"`)
	page.Want(text(`#topics tbody td:nth-child(2)`) + ` === "<img src=x onerror=alert(1)>"`)
	page.Want(`document.querySelector("#topics img") === null`)
	c.message("stocks.AAPL", `{"price":188}`)
	page.Want(text(`#topics tbody tr:nth-child(2) td:nth-child(2)`) + ` === '{"price":188}'`)
	page.Want(`Number(` + text(`#topics tbody tr:nth-child(2) td:nth-child(3)`) + `) > 0`)
	page.Want(`Number(` + text(`#rate`) + `) > 0 && document.querySelector("#hint").hidden`)

	// What is lost is told.
	c.send(`{"type":"gap","topic":"host.>","reason":"slow"}`, `{"type":"error","code":"forbidden","message":"not for you"}`)
	page.Want(text("#gap-count") + ` === "1"`)
	page.Want(text("#notices") + `.includes("Gap in host.>") && ` + text("#notices") + `.includes("not for you")`)

	// Publishing to what is not watched yet watches it first.
	page.Do(`const f = document.querySelector("#publish"); f.elements.topic.value = "news.today"; f.elements.message.value = "hi"; f.requestSubmit()`)
	c.wantCommand("subscribe", "news.today")
	if got := <-s.published; got != "news.today hi" {
		t.Errorf("published %q, want %q", got, "news.today hi")
	}
	page.Want(text("#published") + `.startsWith("Published to news.today")`)
	page.Want(`new URLSearchParams(location.search).getAll("topic").join() === "stocks.*,chat.lobby,news.today"`)
	c.message("news.today", `"hi"`)
	page.Want(text("#topics") + `.includes("news.today")`)

	// A topic that is no topic does not leave the page.
	page.Do(`const f = document.querySelector("#watch"); f.elements.topic.value = "*.a"; f.requestSubmit()`)
	page.Want(`document.querySelector("#watch :invalid") !== null`)
	page.Do(`const f = document.querySelector("#watch"); f.elements.topic.value = "iot.>"; f.requestSubmit()`)
	c.wantCommand("subscribe", "iot.>")
	page.Do(`document.querySelector("#watched li:nth-child(2) button").click()`)
	c.wantCommand("unsubscribe", "stocks.*")

	// A server that drains says when to come back.
	c.send(`{"type":"reconnect","after":300,"reason":"draining"}`)
	c.close(1012)
	c = s.accept(t)
	all := []string{"host.>", "chat.lobby", "news.today", "iot.>"}
	c.wantCommand("subscribe", all...)
	page.Want(text("#state-text") + ` === "live"`)

	// One that says so and does not close is left.
	c.send(`{"type":"reconnect","after":100,"reason":"draining"}`)
	c = s.accept(t)
	c.wantCommand("subscribe", all...)

	// One that vanishes is looked for with backoff.
	c.conn.Close()
	c = s.accept(t)
	c.wantCommand("subscribe", all...)

	// After a final code the page stays away until it is told otherwise.
	c.close(4003)
	page.Want(text("#state-text") + ` === "stopped: closed by the server (4003)"`)
	if len(s.clients) != 0 {
		t.Error("the page came back by itself after it was disconnected by an administrator")
	}
	page.Do(`document.querySelector("#retry").click()`)
	s.accept(t).wantCommand("subscribe", all...)
	page.Want(`document.querySelector("#state").dataset.state === "live"`)

	b.WantNoTrouble()
}

// TestPolicyViolation waits as a server asks that was flooded with commands.
func TestPolicyViolation(t *testing.T) {
	s := startStub(t)
	page := browsertest.Start(t).Open(s.URL)
	c := s.accept(t)
	c.wantCommand("subscribe", "host.>")
	c.close(1008)
	page.Want(text("#state-text") + ` === "reconnecting" && Number(` + text("#countdown") + `.match(/\d+/)[0]) > 5`)
}

// TestHint wants the page to say what to do where nothing comes, and to say
// that a publication was refused.
func TestHint(t *testing.T) {
	s := startStub(t)
	page := browsertest.Start(t).Open(s.URL)
	c := s.accept(t)
	c.wantCommand("subscribe", "host.>")
	page.Want(`!document.querySelector("#hint").hidden`)
	page.Want(text("#hint") + `.includes("/publish/")`)
	page.Do(`const f = document.querySelector("#publish"); f.elements.topic.value = "secret.x"; f.requestSubmit()`)
	c.wantCommand("subscribe", "secret.x")
	<-s.published
	page.Want(text("#published") + ` === "Not published: no permission to publish to it"`)
	c.message("host.a.b", `1`)
	page.Want(`document.querySelector("#hint").hidden`)
}

// sendMachine sends every metric of a machine, its percentages higher by more.
func sendMachine(c *client, host string, more float64) {
	c.t.Helper()
	for metric, data := range map[string]string{
		"disk": `{"read_bytes_per_second":4096,"written_bytes_per_second":81920,"reads_per_second":1,"writes_per_second":20,
			"devices":{"vda":{"reads_per_second":1,"writes_per_second":20}},"root":{"total_bytes":64e9,"used_bytes":20e9}}`,
		"network": `{"received_bytes_per_second":1500000,"sent_bytes_per_second":30000,"received_packets_per_second":1000,"sent_packets_per_second":200,
			"interfaces":{"eth0":{"received_bytes_per_second":1500000,"sent_bytes_per_second":30000}}}`,
		"load":   `{"load_1m":0.42,"load_5m":0.5,"load_15m":0.55,"running_processes":2,"total_processes":93,"uptime_seconds":100000}`,
		"memory": `{"total_bytes":8589934592,"used_bytes":2147483648,"available_bytes":6442450944,"swap_total_bytes":0,"swap_used_bytes":0}`,
		"cpu":    fmt.Sprintf(`{"busy_percent":%f,"iowait_percent":0.5,"core_busy_percent":[%f,5]}`, 42.5+more, 80+more),
	} {
		c.message("host."+host+"."+metric, data)
	}
}
