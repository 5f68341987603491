package console_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
)

// stall opens a subscriber that reads nothing.
func (n *node) stall(query string) {
	n.t.Helper()
	dialer := ws.Dialer{Timeout: patience}
	conn, _, _, err := dialer.Dial(n.t.Context(), "ws://"+n.Addr()+"/ws?"+query)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
}

// TestNodes shows two nodes on one NATS, a client that does not read, and a node
// that goes. With PUSHD_SCREENSHOTS it writes the pictures of docs into that folder.
func TestNodes(t *testing.T) {
	alpha := start(t, func(c *config.Config) { c.WriteTimeout, c.Heartbeat = time.Hour, time.Hour }) // who reads nothing stays, however long this takes
	beta := start(t, func(c *config.Config) { c.NATS, c.NodeName = []string{alpha.NATSURL()}, "beta" })
	for _, query := range []string{"topic=stocks.AAPL&topic=stocks.MSFT", "topic=stocks.*", "topic=stocks.AAPL", "topic=scores.>", "topic=iot.berlin.*"} {
		alpha.subscribe(query)
		beta.subscribe(query)
	}
	alpha.subscribe("topic=stocks.AAPL")
	alpha.stall("topic=stocks.>")
	b := browsertest.Start(t)
	page := b.Open(alpha.console("nodes"))
	const names = `[...document.querySelectorAll("#nodes tbody tr")].map((r) => r.cells[0].textContent).join()`
	page.Want(names + ` === "alpha,beta"`)

	nc := alpha.publisher()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		large := make([]byte, 60<<10)
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			case <-time.After(10 * time.Millisecond):
			}
			if err := nc.Publish("push.stocks.AAPL", []byte(`{"price":187.2}`)); err != nil {
				ended <- err
				return
			}
			if i%2 == 0 && i < 100 {
				// For nobody but who reads nothing: on a busy machine the others are late too.
				if err := nc.Publish("push.stocks.large.one", large); err != nil {
					ended <- err
					return
				}
			}
		}
	}()
	page.Do(`location.hash = "#/overview"`)
	page.Want(tile("Connections") + ` === "12"`)
	page.Want(tile("Behind") + ` === "1"`)
	page.Want(`[...document.querySelectorAll("#problems li")].some((l) => l.textContent.includes("alpha: 1 subscriber is behind"))`)
	page.Do(`const s = document.querySelector("#scope"); s.value = "beta"; s.onchange()`)
	page.Want(tile("Connections") + ` === "5"`)
	page.Want(tile("Behind") + ` === "0"`)
	page.Do(`const s = document.querySelector("#scope"); s.value = ""; s.onchange()`)
	page.Do(`[...document.querySelectorAll("#problems a")].find((a) => a.textContent.includes("behind")).click()`)
	page.Want(`document.querySelectorAll("#connections tbody tr").length === 1 && document.querySelector("#connections tbody td:nth-child(6)").textContent === "1"`)

	if folder := os.Getenv("PUSHD_SCREENSHOTS"); folder != "" {
		photograph(t, page, folder)
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// One that is heard once, in beta's words, and one that says goodbye.
	heard, err := nc.SubscribeSync("push._pushd.nodes.beta")
	if err != nil {
		t.Fatal(err)
	}
	words, err := heard.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	ghost := bytes.Replace(words.Data, []byte(`"node":"beta"`), []byte(`"node":"ghost"`), 1)
	if err := nc.Publish("push._pushd.nodes.ghost", ghost); err != nil {
		t.Fatal(err)
	}
	beta.stop()
	page.Do(`location.hash = "#/overview"`)
	page.Want(`[...document.querySelectorAll("#problems li")].some((l) => l.textContent.includes("ghost has said nothing"))`)
	page.Do(`location.hash = "#/nodes"`)
	page.Want(names + ` === "alpha" || [...document.querySelectorAll("#nodes tbody tr")][1].cells[1].textContent === "silent"`)
	page.Want(names + `.includes("beta") === false`)
	b.WantNoTrouble()
}

// photograph writes what docs/CONSOLE.md shows.
func photograph(t *testing.T, page *browsertest.Tab, folder string) {
	t.Helper()
	shoot := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name+".png"), page.Screenshot(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page.Resize(1280, 900)
	page.Do(`location.hash = "#/overview"`)
	page.Do(`document.activeElement.blur()`)
	time.Sleep(40 * time.Second) // for charts that show something
	for _, scheme := range []string{"light", "dark"} {
		page.Prefer("prefers-color-scheme", scheme)
		time.Sleep(2 * time.Second) // the charts follow
		shoot("console-" + scheme)
	}
	page.Do(`location.hash = "#/connections"`)
	page.Want(`document.querySelectorAll("#connections tbody tr").length > 5`)
	page.Do(`document.querySelector("#connections tbody button").click()`)
	page.Want(`document.querySelector("#detail").open`)
	shoot("console-connection")
	page.Do(`document.querySelector("#detail-close").click(); location.hash = "#/overview"`)
	page.Resize(360, 740)
	time.Sleep(2 * time.Second)
	shoot("console-phone")
}
