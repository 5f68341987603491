package js

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/browsertest"
)

// testBrowser shows the built file to a browser: it hides the page, and takes its network away.
func testBrowser(t *testing.T, pushd string) {
	var upstream string
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>`)
	})
	mux.HandleFunc("/page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, script)
	})
	mux.HandleFunc("/pushd.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "dist/pushd.mjs") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		target, _ := url.Parse(upstream)
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.FlushInterval = -1
		proxy.ServeHTTP(w, r)
	})
	s := httptest.NewServer(mux)
	defer s.Close()

	b := browsertest.Start(t)
	upstream = startServer(t, pushd)
	tab := b.Open(s.URL + "/page")
	tab.Want(`push.state === "open" && push.transport === "websocket" && ready`)
	tab.Do(`push.publish("scores.a", 1)`)
	tab.Want(`got.join() === "1"`)

	// A page that nobody sees pauses, and misses nothing.
	tab.Do(`hide(true)`)
	tab.Want(`push.state === "paused"`)
	tab.Do(`fetch("/publish/scores.a", {method: "POST", body: "2"}).then(() => { stored = true })`)
	tab.Want(`stored`)
	tab.Do(`hide(false)`)
	tab.Want(`push.state === "open" && got.join() === "1,2"`)

	// Streams and polls are read in a browser too.
	for n, transport := range []string{"sse", "poll"} {
		tab.Do(fmt.Sprintf(`connect(%q)`, transport))
		tab.Want(fmt.Sprintf(`push.transport === %q && ready`, transport))
		tab.Do(fmt.Sprintf(`push.publish("scores.a", %d)`, n+3))
		tab.Want(fmt.Sprintf(`got.join() === "%d"`, n+3))
	}
	tab.Do(`push.close()`)
	tab.Want(`states.at(-1) === "closed"`)
	b.WantNoTrouble()

	for _, transport := range []string{"websocket", "sse", "poll"} { // the browser complains now of what fails
		wantNetworkNoticed(t, tab, upstream, transport)
	}
	tab.Do(`push.close()`)
}

// wantNetworkNoticed takes the page's network away and gives it back. Nothing but the
// browser's events can tell the client in time: heartbeats and the backoff take longer
// than the test waits.
func wantNetworkNoticed(t *testing.T, tab *browsertest.Tab, upstream, transport string) {
	t.Helper()
	tab.Do(fmt.Sprintf(`connect(%q, { timeout: 500, backoff: { min: 1e9, max: 1e9 } })`, transport))
	tab.Want(`push.state === "open" && ready`)
	tab.Unplug(true)
	tab.Want(`push.state === "waiting"`)
	for _, data := range []string{"8", "9"} {
		resp, err := http.Post(upstream+"/publish/scores.a", "application/json", strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	tab.Unplug(false)
	tab.Want(`push.state === "open" && got.join() === "8,9"`)
}

const script = `
import { Pushd } from "/pushd.js";
const state = { got: [], states: [], ready: false, stored: false };
for (const name of Object.keys(state)) Object.defineProperty(window, name, { get: () => state[name], set: (v) => { state[name] = v; } });
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.hide = (is) => {
  hidden = is;
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true })); // as browsers do
};
window.connect = (transport, options) => {
  window.push?.close();
  Object.assign(state, { got: [], states: [], ready: false });
  window.push = new Pushd(undefined, { pauseHidden: true, transports: [transport], ...options });
  push.on("state", (s) => state.states.push(s));
  push.subscribe("scores.a", (m) => state.got.push(m.data), { onSubscribed: () => { state.ready = true; } });
};
connect("websocket");
`

// startServer starts a pushd that ends with the test, and returns its URL.
func startServer(t *testing.T, pushd string) string {
	t.Helper()
	cmd := exec.Command("node", "test/serve.mjs")
	cmd.Env = append(os.Environ(), "JS_TEST_SERVER="+pushd)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // which ends it
		_ = cmd.Wait()
	})
	var at string
	if _, err := fmt.Fscanln(out, &at); err != nil {
		t.Fatalf("pushd did not start: %v", err)
	}
	return at
}
