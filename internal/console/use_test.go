package console_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
)

// TestToken asks for the admin token, keeps it for the tab, and shows nothing before.
func TestToken(t *testing.T) {
	const token = "a+b/c=" + "0123456789012345678901234567890123456789" // as base64 has it: no entry of a subprotocol
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := start(t, func(c *config.Config) { c.AdminTokenFile = file })
	b := browsertest.Start(t)
	page := b.Open(n.console("overview"))
	page.Want(`document.querySelector("#login").open`)
	page.Want(`!document.body.innerText.includes("alpha")`)
	page.Press("wrong" + browsertest.Enter)
	page.Want(`document.querySelector("#login").open && ` + text("#login-result") + `.includes("does not know")`)
	page.Press(token + browsertest.Enter)
	page.Want(text("#state-text") + ` === "live"`)
	page.Want(text("#verdict") + `.includes("All is well")`)
	page.Want(`localStorage.length === 0 && document.cookie === "" && !location.href.includes("0123")`)
	page.Reload()
	page.Want(text("#verdict") + `.includes("All is well") && !document.querySelector("#login").open`)
}

// keyboard disconnects a client with nothing but keys.
func keyboard(t *testing.T, b *browsertest.Browser) {
	n := start(t)
	c := n.subscribe("topic=a.b")
	page := b.Open(n.console("overview"))
	page.Want(text("#verdict") + `.includes("All is well")`)
	focused := func(what string) {
		t.Helper()
		page.Want(`(document.activeElement.textContent.trim() || document.activeElement.name) === ` + quoted(what))
	}
	press := func(n int) { page.Press(strings.Repeat(browsertest.Next, n)) }
	press(1)
	focused("Skip to the content")
	press(4)
	focused("Connections")
	page.Press(browsertest.Enter)
	focused("Connections of alpha")
	press(1)
	page.Press("get") // in a list of choices: the one that begins so
	page.Want(`document.activeElement.value === "topic"`)
	press(1)
	page.Press("a.b" + browsertest.Enter)
	page.Want(`location.hash === "#/connections?by=topic&value=a.b"`)
	page.Want(`document.querySelectorAll("#connections tbody tr").length === 1`)
	focused("Connections of alpha") // what came of it is below
	press(6)
	focused(c.name)
	page.Press(browsertest.Enter)
	page.Want(`document.querySelector("#detail").open`)
	focused(c.name)
	press(1)
	focused("Disconnect…")
	page.Press(browsertest.Enter)
	page.Want(`document.querySelector("#confirm").open`)
	page.Press(browsertest.Escape)
	page.Want(`!document.querySelector("#confirm").open && document.querySelector("#detail").open`)
	focused("Disconnect…")
	page.Press(browsertest.Enter)
	press(1)
	focused("Disconnect")
	page.Press(browsertest.Enter)
	page.Want(text("#detail-result") + `.startsWith("1 disconnected")`)
	c.wantClosed(t, 4003)
	page.Press(browsertest.Escape)
	page.Want(`!document.querySelector("#detail").open`)
}

func quoted(s string) string { return `"` + s + `"` }

// phone wants each view to fit into 360 pixels, with all that it can have.
func phone(t *testing.T, b *browsertest.Browser) {
	n := start(t)
	long := strings.Repeat("long-token-", 10)
	n.subscribe("topic=stocks.AAPL&topic=" + long + "." + long)
	page := b.Open(n.console("overview"))
	page.Resize(360, 740)
	page.Want(text("#verdict") + `.includes("All is well")`)
	for _, view := range []string{"overview", "nodes", "topics", "connections", "try"} {
		page.Do(`location.hash = "#/` + view + `"`)
		page.Want(`!document.querySelector("#` + view + `").hidden`)
		switch view {
		case "topics", "connections":
			page.Want(`document.querySelectorAll("#` + view + ` tbody tr").length >= 2`)
		case "overview":
			page.Want(`document.querySelectorAll("#charts canvas").length === 4`)
		}
		page.Want(`innerWidth === 360 && document.documentElement.scrollWidth <= 360`)
	}
	page.Do(`location.hash = "#/connections"`)
	page.Do(`[...document.querySelectorAll("#connections tbody tr")].find((r) => r.textContent.includes("stocks")).querySelector("button").click()`)
	page.Want(`document.querySelector("#detail").open && document.querySelector("#detail").scrollWidth <= 340 && document.documentElement.scrollWidth <= 360`)
}

// TestTrouble tells that NATS is away, which no message of a node can, and that
// the server is; and comes back when that does, with what was subscribed to by hand.
func TestTrouble(t *testing.T) {
	bus := natstest.Start(t)
	first := start(t, func(c *config.Config) { c.NATS = []string{bus.URL()} })
	b := browsertest.Start(t)
	page := b.Open(first.console("try"))
	page.Want(text("#state-text") + ` === "live"`)
	page.Do(`const f = document.querySelector("#subscribe"); f.elements.topic.value = "stocks.AAPL"; f.requestSubmit()`)
	page.Want(text("#subscribed") + `.includes("stocks.AAPL")`)
	bus.Kill()
	page.Want(text("#problems") + `.includes("alpha: NATS is away") && document.querySelector("#health").dataset.level === "bad"`)
	admin := first.AdminAddr()
	first.stop()
	page.Want(`document.querySelector("#state").dataset.state === "waiting"`)
	page.Want(text("#problems") + `.includes("no connection to the server")`)
	second := start(t, func(c *config.Config) { c.Admin, c.NodeName = admin, "beta" })
	page.Want(text("#state-text") + ` === "live"`)
	page.Want(text("#verdict") + `.includes("All is well") || ` + text("#problems") + `.includes("alpha")`)
	nc := second.publisher()
	eventually(t, func() bool { return subscribedTo(t, second, "stocks.AAPL") })
	if err := nc.Publish("push.stocks.AAPL", []byte("187.2")); err != nil {
		t.Fatal(err)
	}
	page.Want(text("#messages tbody") + `.includes("187.2")`)
	page.Do(`location.hash = "#/nodes"`)
	page.Want(text("#nodes tbody") + `.includes("beta")`)
}
