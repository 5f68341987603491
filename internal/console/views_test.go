package console_test

import (
	"fmt"
	"testing"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
)

// TestConsole uses the console in one browser, since that is slow to start.
func TestConsole(t *testing.T) {
	b := browsertest.Start(t)
	views(t, b)
	identity(t, b)
	keyboard(t, b)
	phone(t, b)
	b.WantNoTrouble()
}

// views goes through every view.
func views(t *testing.T, b *browsertest.Browser) {
	n := start(t)
	c := n.subscribe("topic=stocks.AAPL&topic=stocks.*")
	n.subscribe("topic=stocks.AAPL")
	page := b.Open("http://" + n.AdminAddr() + "/") // which leads to the console

	// The overview: values that move.
	page.Want(text("#state-text") + ` === "live"`)
	page.Want(text("#verdict") + `.includes("All is well with 1 node")`)
	page.Want(tile("Connections") + ` === "2"`)
	page.Want(tile("NATS") + ` === "connected" && ` + tile("State") + ` === "serving"`)
	page.Want(tile("Subscriptions") + ` === "4"`) // the console's own is one
	nc := n.publisher()
	publishing := make(chan struct{})
	published := make(chan error, 1)
	go func() { published <- publishUntil(nc, publishing) }()
	page.Want(`Number(` + tile("Deliveries") + `.match(/^[\d.,]+/)[0].replace(",", "")) > 1.5`)
	page.Want(`document.querySelectorAll("#charts canvas").length === 4`)
	close(publishing)
	if err := <-published; err != nil {
		t.Fatal(err)
	}

	// Nodes: this one, as it names itself.
	page.Do(`document.querySelector("nav a[href='#/nodes']").click()`)
	page.Want(text("#nodes tbody td") + ` === "alpha"`)
	page.Want(`[...document.querySelector("#nodes tbody tr").cells].slice(1, 4).map((c) => c.textContent).join() === "serving,connected,2"`)
	page.Want(`document.activeElement.textContent === "Nodes"`)

	// Topics with their subscribers, and from there to who they are.
	page.Do(`location.hash = "#/topics"`)
	const first = `[...document.querySelector("#topics tbody tr").cells].map((c) => c.textContent).slice(0, 3).join()`
	page.Want(first + ` === "stocks.AAPL,2,namespace stocks"`)
	page.Do(`const f = document.querySelector("#topics-form input"); f.value = "s.*"; f.oninput()`)
	page.Want(first + ` === "stocks.*,1,namespace stocks" || ` + first + ` === "_pushd.nodes.*,1,namespace _pushd"`)
	page.Do(`const f = document.querySelector("#topics-form input"); f.value = "stocks.*"; f.oninput()`)
	page.Want(`document.querySelectorAll("#topics tbody tr").length === 1`)
	page.Do(`document.querySelector("#topics tbody a").click()`)
	page.Want(`location.hash === "#/connections?by=pattern&value=stocks.*"`)

	// Connections: one in detail, and its end.
	page.Want(`document.querySelectorAll("#connections tbody tr").length === 1 && ` + text("#connections tbody button") + fmt.Sprintf(` === %q`, c.name))
	page.Do(`document.querySelector("#connections tbody button").click()`)
	page.Want(`document.querySelector("#detail").open && ` + text("#detail-title") + fmt.Sprintf(` === %q`, c.name))
	page.Want(`[...document.querySelectorAll("#detail-topics li")].map((l) => l.textContent).sort().join() === "stocks.*,stocks.AAPL"`)
	page.Want(text("#detail-facts") + `.includes("127.0.0.1") && ` + text("#detail-facts") + `.includes("json")`)
	page.Do(`document.querySelector("#kick-client").click()`)
	page.Want(`document.querySelector("#confirm").open`)
	page.Do(`document.querySelector("#confirm button[value=no]").click()`) // not yet
	page.Want(`!document.querySelector("#confirm").open && ` + text("#detail-result") + ` === ""`)
	page.Do(`document.querySelector("#kick-client").click()`)
	page.Want(`document.querySelector("#confirm").open`)
	page.Do(`document.querySelector("#confirm button[value=yes]").click()`)
	c.wantClosed(t, 4003)
	page.Want(text("#detail-result") + ` === "1 disconnected (kicked)."`)
	page.Do(`document.querySelector("#detail-close").click()`)
	page.Do(`const f = document.querySelector("#connections-form"); f.elements.by.value = ""; f.elements.value.value = ""; f.requestSubmit()`)
	page.Want(`document.querySelectorAll("#connections tbody tr").length === 2`)
	page.Want(text("#connections tbody") + `.includes("this console")`)

	// What was published by hand arrives by hand.
	page.Do(`location.hash = "#/try"`)
	page.Do(`const f = document.querySelector("#subscribe"); f.elements.topic.value = "chat.*"; f.requestSubmit()`)
	page.Want(text("#subscribed") + `.includes("chat.*")`)
	page.Do(`const f = document.querySelector("#publish"); f.elements.topic.value = "chat.lobby"; f.elements.message.value = '{"text":"<b>hi</b>"}'; f.requestSubmit()`)
	page.Want(text("#publish-result") + `.startsWith("Published to chat.lobby")`)
	page.Want(`[...document.querySelector("#messages tbody tr").cells].slice(1).map((c) => c.textContent).join() === 'chat.lobby,{"text":"<b>hi</b>"}'`)
	page.Do(`const f = document.querySelector("#subscribe"); f.elements.topic.value = "chat.*"; f.elements.mode.value = "all"; f.requestSubmit()`)
	page.Want(text("#subscribe-result") + `.includes("mode")`) // which needs history
	page.Do(`document.querySelector("#subscribed button").click()`)
	page.Want(`document.querySelectorAll("#subscribed li").length === 0`)

	// What was closed is among the reasons.
	page.Do(`location.hash = "#/overview"`)
	page.Want(tile("Connections") + ` === "1"`)
	page.Want(`[...document.querySelectorAll("#reasons tbody tr")].some((r) => r.textContent === "closedkicked11")`)
}

// identity disconnects all connections of one.
func identity(t *testing.T, b *browsertest.Browser) {
	key, hash := auth.NewAPIKey()
	n := start(t, func(c *config.Config) {
		c.APIKeys = []config.APIKey{{Name: "alice", Hash: hash, Subscribe: []string{"stocks.>"}}}
	})
	one, two := n.subscribe("topic=stocks.AAPL&token="+key), n.subscribe("topic=stocks.MSFT&token="+key)
	page := b.Open(n.console("connections?by=identity&value=alice"))
	page.Want(`document.querySelectorAll("#connections tbody tr").length === 2`)
	page.Do(`document.querySelector("#connections tbody button").click()`)
	page.Want(`document.querySelector("#detail").open && !document.querySelector("#kick-identity").hidden`)
	page.Do(`document.querySelector("#kick-identity").click()`)
	page.Do(`document.querySelector("#confirm select").value = "token_expired"; document.querySelector("#confirm button[value=yes]").click()`)
	one.wantClosed(t, 4002)
	two.wantClosed(t, 4002)
	page.Want(text("#detail-result") + ` === "2 disconnected (token_expired)."`)
	page.Want(`document.querySelectorAll("#connections tbody tr").length === 0`)
}
