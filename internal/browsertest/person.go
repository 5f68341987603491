package browsertest

import (
	"context"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// Keys that have no character, for Press.
const (
	Next   = "\t" // Tab
	Enter  = "\r"
	Escape = "\x1b"
)

// Press presses keys, one for each character, where the focus is.
func (tab *Tab) Press(keys string) {
	tab.t.Helper()
	if _, err := chromedp.Run(tab.ctx, chromedp.KeyEvent(keys)); err != nil {
		tab.t.Fatalf("pressing %q: %v", keys, err)
	}
}

// Visit goes to another page.
func (tab *Tab) Visit(url string) {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, chromedp.Navigate(url)); err != nil {
		tab.t.Fatalf("going to %s: %v", url, err)
	}
}

// Reload loads the page again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, chromedp.Reload()); err != nil {
		tab.t.Fatalf("reloading: %v", err)
	}
}

// Resize gives the page a screen of so many pixels.
func (tab *Tab) Resize(width, height int64) {
	tab.t.Helper()
	if _, err := chromedp.Run(tab.ctx, chromedp.EmulateViewport(width, height)); err != nil {
		tab.t.Fatalf("resizing to %d x %d: %v", width, height, err)
	}
}

// Prefer has the page find a media feature of the person's: prefers-color-scheme
// is dark, say.
func (tab *Tab) Prefer(feature, value string) {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
		})
		return err
	})); err != nil {
		tab.t.Fatalf("%s: %s: %v", feature, value, err)
	}
}

// Unplug takes the page's network away, or gives it back: requests fail, WebSockets
// that are open fall silent or break, and the page hears `offline` or `online`.
func (tab *Tab) Unplug(offline bool) {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		conditions := network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{
			{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1},
		}}
		if _, err := cdp.Call(ctx, t, network.EmulateNetworkConditionsByRule, conditions); err != nil {
			return err
		}
		state := network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}
		_, err := cdp.Call(ctx, t, network.OverrideNetworkState, state)
		return err
	})); err != nil {
		tab.t.Fatalf("the network: %v", err)
	}
}
