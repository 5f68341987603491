package server

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
)

// TestDemos opens each demo page in a real browser and wants to see it do its
// work: values move, and none of the pages has anything to complain of.
func TestDemos(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *config.Config) { c.Demo = true })
	browser := browsertest.Start(t)
	for _, demo := range []struct {
		name string
		want []string // JavaScript that becomes true, one after the other
	}{
		{"", []string{`document.querySelectorAll("nav a").length === 5`}},
		{"ticker", []string{
			`document.querySelector("#state").textContent === "live"`,
			`document.querySelectorAll("#quotes li").length === 500`,
			`Number(document.querySelector("#received").textContent) > 100`,
			`document.querySelector("#quotes .flash")`,
		}},
		{"scoreboard", []string{
			`document.querySelector("#state").textContent === "live"`,
			`/^\d – \d$/.test(document.querySelector("#score").textContent)`,
			`Number(document.querySelector("#count").textContent) >= 3`,
		}},
		{"iot", []string{
			`document.querySelector("#state").textContent === "live"`,
			`document.querySelectorAll(".card").length >= 4`,
			`document.querySelector("[data-metric=memory] [role=meter]").getAttribute("aria-valuenow") > 0`,
			`Number(document.querySelector("#count").textContent) > 10`,
		}},
		{"crowd", []string{
			`document.querySelector("#opened").textContent === "100"`,
			`document.querySelector("#heard").textContent === "100"`,
			`document.querySelector("#state").textContent === "live"`,
		}},
	} {
		t.Run(demo.name, func(t *testing.T) {
			tab := browser.Open("http://" + r.Addr() + "/demo/" + demo.name)
			for _, expression := range demo.want {
				tab.Want(expression)
			}
			if dir := os.Getenv("PUSHD_SCREENSHOTS"); dir != "" {
				if err := os.WriteFile(filepath.Join(dir, "demo-"+demo.name+".png"), tab.View(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tab.Do(`location = "about:blank"`) // and not all of them at a time
		})
	}
	browser.WantNoTrouble()
}

// TestDemosOfAGuardedServer wants what the pages show to be for everybody where
// others need a token, but not what was configured otherwise.
func TestDemosOfAGuardedServer(t *testing.T) {
	host := func(public config.Public) func(*config.Config) {
		return func(c *config.Config) {
			ns := c.Default
			ns.Public = public
			c.Namespaces = map[string]config.Namespace{"host": ns}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*config.Config)
		status int // of who asks for the measurements, and has no token
	}{
		{"as it comes", func(*config.Config) {}, 200},
		{"configured for some", host(config.PublicNone), 401},
		{"configured for all", host(config.PublicSubscribe), 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := secure(t, func(c *config.Config) { c.Demo = true }, tc.change)
			for topic, want := range map[string]int{"host.%3E": tc.status, "demo-stocks.*": 200, "demo-match.*": 200, "demo-crowd.*": 200, "other.a": 401} {
				if status, _, body := r.http("GET", "/poll?wait=0&topic="+topic, "", ""); status != want {
					t.Errorf("%s: %d %s, want %d", topic, status, body, want)
				}
			}
			if status, _, body := r.http("POST", "/publish/host.a", "", "1"); status != 401 {
				t.Errorf("a publication by nobody: %d %s, want 401", status, body)
			}
		})
	}
}

// TestScoreboardGoesOn has the server end a connection of the scoreboard, which
// then goes on from its cursor: it shows as many events as the server has kept.
func TestScoreboardGoesOn(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *config.Config) { c.Demo = true })
	browser := browsertest.Start(t)
	tab := browser.Open("http://" + r.Addr() + "/demo/scoreboard")
	tab.Want(`Number(document.querySelector("#count").textContent) >= 2`)
	var all struct{ Connections []struct{ Client string } }
	r.do(200, "GET", "/connections", &all)
	if len(all.Connections) != 1 {
		t.Fatalf("the page has %d connections, want 1", len(all.Connections))
	}
	var did disconnected
	r.do(200, "POST", "/connections/"+all.Connections[0].Client+"/disconnect?reason=overloaded", &did)
	tab.Want(`document.querySelector("#state").textContent !== "live"`)
	tab.Want(`document.querySelector("#state").textContent === "live"`)
	tab.Do(`
		window.before = Number(document.querySelector("#count").textContent);
		setInterval(async () => {
			const history = await (await fetch("/history/demo-match.bra-ger?limit=1000")).json();
			window.kept = history.messages.length;
		}, 50)`)
	tab.Want(`Number(document.querySelector("#count").textContent) >= window.before + 2`)
	tab.Want(`Number(document.querySelector("#count").textContent) === window.kept`)
	tab.Want(`document.querySelector("#gaps").textContent === "0"`)
	browser.WantNoTrouble()
}
