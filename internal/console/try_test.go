package console_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
)

// byHand subscribes in the view Try.
func byHand(page *browsertest.Tab, pattern string) {
	page.Do(fmt.Sprintf(`const f = document.querySelector("#subscribe"); f.elements.topic.value = %q; f.requestSubmit()`, pattern))
	page.Want(fmt.Sprintf(`[...document.querySelectorAll("#subscribed li")].some((li) => li.firstChild.textContent === %q)`, pattern))
}

// rows is the JavaScript for what Try shows of topics, the oldest first.
func rows(like string) string {
	return fmt.Sprintf(`[...document.querySelector("#messages tbody").rows].reverse().filter((r) => /%s/.test(r.cells[1].textContent)).map((r) => r.cells[2].textContent).join()`, like)
}

// TestTryGoesOn ends the server under what was subscribed to by hand. What is
// published meanwhile comes when it is back, once and in order, and where
// something is missing the list says so.
func TestTryGoesOn(t *testing.T) {
	bus := natstest.Start(t, natstest.Store(t.TempDir()))
	scores := func(c *config.Config) {
		ns := c.Default
		ns.Delivery, ns.History = config.DeliveryAll, config.History{Messages: 100}
		c.NATS, c.Namespaces = []string{bus.URL()}, map[string]config.Namespace{"scores": ns}
	}
	n := start(t, scores)
	restart := func(meanwhile func()) {
		t.Helper()
		admin := n.AdminAddr()
		n.stop()
		meanwhile()
		n = start(t, scores, func(c *config.Config) { c.Admin = admin })
	}
	js, err := jetstream.New(n.publisher())
	if err != nil {
		t.Fatal(err)
	}
	publish := func(topic, data string) {
		t.Helper()
		if _, err := js.Publish(context.Background(), "push."+topic, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	b := browsertest.Start(t)
	page := b.Open(n.console("try"))
	page.Want(text("#state-text") + ` === "live"`)
	for _, pattern := range []string{"scores.*", "scores.c", "chat.a"} { // two that overlap, one without history
		byHand(page, pattern)
	}
	publish("scores.a", "1")
	page.Want(rows("scores") + ` === "1"`)
	restart(func() {
		publish("scores.a", "2")
		publish("scores.b", "3")
	})
	page.Want(rows("scores") + ` === "1,2,3"`)
	page.Want(rows("chat") + `.includes("missing (disconnected)")`)
	publish("scores.a", "4")
	page.Want(rows("scores") + ` === "1,2,3,4"`)
	restart(func() {
		if err := js.DeleteStream(context.Background(), "push_scores"); err != nil {
			t.Fatal(err)
		}
	})
	page.Want(rows("scores") + `.includes("missing (restarted)")`)
	publish("scores.a", "5")
	page.Want(rows("scores") + `.endsWith(",5")`)
}

// TestTryNodes subscribes by hand to what the console itself hears, and ends that.
func TestTryNodes(t *testing.T) {
	n := start(t)
	b := browsertest.Start(t)
	page := b.Open(n.console("try"))
	page.Want(text("#state-text") + ` === "live"`)
	byHand(page, "_pushd.nodes.*")
	page.Want(rows("_pushd.nodes.alpha") + `.includes("alpha")`)
	page.Do(`document.querySelector("#subscribed button").click()`)
	page.Do(`const f = document.querySelector("#publish"); f.elements.topic.value = "chat.a"; f.elements.message.value = "1"; f.requestSubmit()`)
	page.Want(text("#publish-result") + `.startsWith("Published")`) // what was sent before has been done
	if !subscribedTo(t, n, "_pushd.nodes.*") {
		t.Error("the console hears no node any more")
	}
	b.WantNoTrouble()
}
