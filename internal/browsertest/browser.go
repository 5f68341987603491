// Package browsertest shows pages to a real browser, in tests of any package.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/pushd/pushd/internal/tooltest"
)

// patience bounds every wait; nothing waits so long unless it fails.
const patience = 30 * time.Second

// Browser is a headless Chromium.
type Browser struct {
	// Static.
	t   testing.TB
	ctx context.Context

	// Guarded by mu.
	mu       sync.Mutex
	troubles []string // exceptions and errors that pages reported
}

// Start starts a Chromium that ends with the test. Where there is none the
// test is skipped, as tooltest.Find says. flags are Chromium's own, beside
// those that it needs: "ssl-version-max=tls1.2".
func Start(t testing.TB, flags ...string) *Browser {
	t.Helper()
	path := tooltest.Find(t, "chromium", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WSURLReadTimeout(patience))
	for _, flag := range flags {
		if name, value, ok := strings.Cut(flag, "="); ok {
			options = append(options, chromedp.Flag(name, value))
		} else {
			options = append(options, chromedp.Flag(name, true))
		}
	}
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to be sandboxed as root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits for its processes
			t.Errorf("ending the browser: %v", err)
		}
		cancel()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	return &Browser{t: t, ctx: ctx}
}

// Tab is one page in a browser.
type Tab struct {
	*Browser
	ctx context.Context
}

// Open opens a page in a tab of its own.
func (b *Browser) Open(url string) *Tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.note(fmt.Sprintf("%s:%d: %s", e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber+1, e.ExceptionDetails.Text))
		case *log.EventEntryAdded:
			b.note(fmt.Sprintf("%s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	})
	if err == nil {
		err = chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, log.Enable, cdp.Empty{})
			return err
		}), chromedp.Navigate(url))
	}
	if err != nil {
		b.t.Fatalf("opening %s: %v", url, err)
	}
	return &Tab{Browser: b, ctx: ctx}
}

func (b *Browser) note(trouble string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = append(b.troubles, trouble)
}

// Want waits until a JavaScript expression is true in the page.
func (tab *Tab) Want(expression string) {
	tab.t.Helper()
	poll := chromedp.PollFunction[chromedp.Void]("() => { try { return Boolean("+expression+") } catch { return false } }",
		chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(patience))
	if _, err := chromedp.Run(tab.ctx, poll); err != nil {
		text, _ := chromedp.Run(tab.ctx, chromedp.Evaluate[string]("document.body.innerText")) // a help, no more
		tab.t.Fatalf("%s never became true (%v); the page says:\n%s", expression, err, text)
	}
}

// Do runs JavaScript in the page.
func (tab *Tab) Do(script string) {
	tab.t.Helper()
	if _, err := chromedp.Run(tab.ctx, chromedp.Evaluate[chromedp.Void]("(() => {"+script+"})()")); err != nil {
		tab.t.Fatalf("%s: %v", script, err)
	}
}

// View returns what of the page fits into the window, as a PNG.
func (tab *Tab) View() []byte {
	tab.t.Helper()
	png, err := chromedp.Run(tab.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		tab.t.Fatalf("taking a screenshot: %v", err)
	}
	return png
}

// Screenshot returns the whole page as a PNG.
func (tab *Tab) Screenshot() []byte {
	tab.t.Helper()
	png, err := chromedp.Run(tab.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		tab.t.Fatalf("taking a screenshot: %v", err)
	}
	return png
}

// WantNoTrouble wants that no page threw, or tried what its policy forbids.
func (b *Browser) WantNoTrouble() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, trouble := range b.troubles {
		b.t.Errorf("the page reported: %s", trouble)
	}
}
