package server

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
)

// TestDemosOnAPhone opens each demo page on a screen of 360 pixels: nothing stands
// out to the side, and what can be operated is in sight and not too small to hit.
func TestDemosOnAPhone(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *config.Config) { c.Demo = true })
	browser := browsertest.Start(t)
	for _, name := range []string{"", "ticker", "scoreboard", "iot", "crowd"} {
		t.Run(name, func(t *testing.T) {
			tab := browser.Open("about:blank")
			tab.Resize(360, 640)
			tab.Visit("http://" + r.Addr() + "/demo/" + name)
			if name != "" {
				tab.Want(`document.querySelector("#state").textContent === "live"`)
			}
			if name == "crowd" {
				wantCrowd(tab)
			}
			tab.Want(`innerWidth === 360 && document.documentElement.scrollWidth === 360`)
			tab.Want(`[...document.querySelectorAll("main a, input, button")].every((control) => {
				const { left, right, width, height } = control.getBoundingClientRect();
				return left >= 0 && right <= 360 && width >= 24 && height >= 24;
			})`)
			if dir := os.Getenv("PUSHD_SCREENSHOTS"); dir != "" {
				if err := os.WriteFile(filepath.Join(dir, "phone-"+name+".png"), tab.View(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tab.Do(`location = "about:blank"`)
		})
	}
	browser.WantNoTrouble()
}

// wantCrowd opens more connections and fewer, and wants each to hear a message.
func wantCrowd(tab *browsertest.Tab) {
	opened := func(n string) {
		tab.Want(`document.querySelectorAll("#crowd li.open").length === ` + n)
		tab.Want(`document.querySelector("#opened").textContent === "` + n + `"`)
		tab.Want(`document.querySelector("#heard").textContent === "` + n + `"`)
	}
	opened("100")
	for _, n := range []string{"200", "7"} {
		tab.Do(`document.querySelector("[name=n]").select()`)
		tab.Press(n + browsertest.Enter)
		opened(n)
	}
	tab.Want(`document.querySelector("#state").textContent === "live"`)
}
