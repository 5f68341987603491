package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
)

// cell is the JavaScript for a cell of a node's line.
func cell(node string, column int) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#nodes tbody tr")].find((r) => r.cells[0].textContent === %q).cells[%d]`, node, column)
}

// TestDrain drains a node from another's console: not what is cancelled, nor
// what was taken back.
func TestDrain(t *testing.T) {
	alpha := start(t)
	beta := start(t, func(c *config.Config) { c.NATS, c.NodeName = []string{alpha.NATSURL()}, "beta" })
	stays, leaves := alpha.subscribe("topic=a.b"), beta.subscribe("topic=a.b")
	b := browsertest.Start(t)
	page := b.Open(alpha.console("nodes"))
	state, button := cell("beta", 1)+`.textContent`, cell("beta", 13)+`.firstChild`
	page.Want(state + ` === "serving" && ` + button + `.textContent === "Drain…" && ` + button + `.ariaLabel === "Drain beta…"`)
	focused := func(what string) {
		t.Helper()
		page.Want(`(document.activeElement.textContent.trim() || document.activeElement.name) === ` + quoted(what))
	}

	// By keyboard: after the skip link, the views and the table come the buttons of alpha and beta.
	page.Press(strings.Repeat(browsertest.Next, 9))
	page.Want(`document.activeElement.ariaLabel === "Drain beta…"`)
	page.Press(browsertest.Enter)
	page.Want(`document.querySelector("#drain").open && ` + text("#drain-title") + ` === "Drain beta?" && ` + text("#drain-count") + ` === "1"`)
	page.Press(browsertest.Escape)
	page.Want(`!document.querySelector("#drain").open && document.activeElement.ariaLabel === "Drain beta…"`)
	page.Press(browsertest.Enter)
	page.Press(strings.Repeat(browsertest.Next, 3))
	focused("Cancel")
	page.Press(browsertest.Enter)
	page.Want(`!document.querySelector("#drain").open && ` + text("#nodes-result") + ` === ""`)

	// An hour of grace, which is taken back.
	page.Press(browsertest.Enter)
	focused("grace")
	page.Press("3600" + browsertest.Next)
	focused("window")
	page.Press("0" + browsertest.Next)
	focused("Drain")
	page.Press(browsertest.Enter)
	page.Want(text("#nodes-result") + ` === "beta is being drained: waiting, 1 connections left."`)
	page.Want(state + ` === "waiting" && ` + button + `.textContent === "Take back" && document.activeElement === ` + button)
	page.Press(browsertest.Enter)
	page.Want(text("#nodes-result") + ` === "beta serves on."`)
	page.Want(state + ` === "serving" && ` + button + `.textContent === "Drain…"`)

	// More than a node takes is not sent.
	page.Press(browsertest.Enter)
	page.Press("3601" + browsertest.Enter)
	page.Want(`document.querySelector("#drain").open && document.querySelector("#drain input").matches(":invalid")`)
	page.Press(browsertest.Escape)

	// Without any.
	page.Want(`!document.querySelector("#drain").open`)
	page.Do(button + `.click(); document.querySelector("#drain input[name=window]").value = "1"; document.querySelector("#drain button[value=yes]").click()`)
	select {
	case <-leaves.closed: // by 1012, which the client's library does not know
	case <-time.After(patience):
		t.Fatal("the connection stays open")
	}
	page.Want(state + ` === "drained" && ` + button + `.disabled`)
	page.Want(cell("alpha", 1) + `.textContent === "serving" && ` + cell("alpha", 3) + `.textContent === "1"`)
	select {
	case code := <-stays.closed:
		t.Errorf("the client of alpha was closed with %d", code)
	default:
	}

	page.Do(`location.hash = "#/overview"`)
	page.Want(`[...document.querySelectorAll("#reasons tbody tr")].some((r) => r.textContent === "closeddraining11")`)
	page.Do(`location.hash = "#/nodes"`)
	page.Resize(360, 740)
	page.Want(`innerWidth === 360 && document.documentElement.scrollWidth <= 360`)
	b.WantNoTrouble()
}
