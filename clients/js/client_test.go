// Package js has the tests of the JavaScript client, which run in Node and in
// a browser against a real pushd.
package js

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/wire"
)

// mostGzipped is how much a page has to load, in bytes.
const mostGzipped = 5 << 10

// page is the copy that pushd's own pages load.
const page = "../../internal/page/assets/pushd.js"

// command runs a program here, and returns what it wrote.
func command(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// install has the packages of the lock file, in a folder that git ignores. Where there is no
// Node the test is skipped; under CI it fails.
func install(t *testing.T) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("no %s: install it (apt-get install nodejs npm)", program)
			}
			t.Skipf("the JavaScript client is not tested: no %s (apt-get install nodejs npm)", program)
		}
	}
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	const done = "node_modules/.installed"
	if was, err := os.ReadFile(done); err == nil && bytes.Equal(was, lock) {
		return
	}
	command(t, nil, "npm", "ci")
	if err := os.WriteFile(done, lock, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestClient builds the client once, since that takes a while.
func TestClient(t *testing.T) {
	install(t)
	command(t, nil, "npx", "tsc")
	command(t, nil, "node", "build.mjs")
	built, err := os.ReadFile("dist/pushd.mjs")
	if err != nil {
		t.Fatal(err)
	}

	t.Run("committed", func(t *testing.T) {
		committed, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(built, committed) {
			t.Errorf("%s is not what clients/js/src builds: make sdk", page)
		}
	})
	t.Run("size", func(t *testing.T) {
		var small bytes.Buffer
		w, _ := gzip.NewWriterLevel(&small, gzip.BestCompression)
		_, _ = w.Write(built)
		w.Close()
		t.Logf("%d bytes, %d with gzip", len(built), small.Len())
		if small.Len() > mostGzipped {
			t.Errorf("%d bytes with gzip, want at most %d", small.Len(), mostGzipped)
		}
	})
	t.Run("closing", testClosing)
	t.Run("types", func(t *testing.T) { command(t, nil, "npx", "tsc", "-p", "test/types") })

	pushd := filepath.Join(t.TempDir(), "pushd")
	command(t, nil, "go", "build", "-o", pushd, "../../cmd/pushd")
	t.Run("node", func(t *testing.T) {
		files, _ := filepath.Glob("test/*.test.mjs")
		args := append([]string{"--test", "--test-reporter=spec"}, files...)
		t.Log(command(t, []string{"JS_TEST_SERVER=" + pushd}, "node", args...))
	})
	t.Run("browser", func(t *testing.T) { testBrowser(t, pushd) })
}

// testClosing holds what the client does after each close code against the
// server's table, which is that of the protocol's page.
func testClosing(t *testing.T) {
	var client []struct {
		Code      wire.CloseCode
		Final     bool
		Stale     bool
		LeastWait float64
	}
	if err := json.Unmarshal([]byte(command(t, nil, "node", "test/closing.mjs")), &client); err != nil {
		t.Fatal(err)
	}
	table := wire.CloseCodes()
	if len(client) < len(table) {
		t.Fatalf("%d codes, want %d at least", len(client), len(table))
	}
	for _, got := range client {
		want := got.Code.Info()
		// After 4001 and 4002 another token is needed: with one it goes on, without it is the end.
		needsToken := got.Code == wire.CloseNoToken || got.Code == wire.CloseTokenExpired
		if got.Stale != needsToken || got.Final != (!want.Reconnect || needsToken) || got.LeastWait != float64(want.Wait.Milliseconds()) {
			t.Errorf("after %d the client does %+v, want %+v", got.Code, got, want)
		}
	}
}

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
}

const script = `
import { Pushd } from "/pushd.js";
const state = { got: [], states: [], ready: false, stored: false };
for (const name of Object.keys(state)) Object.defineProperty(window, name, { get: () => state[name], set: (v) => { state[name] = v; } });
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.hide = (is) => {
  hidden = is;
  document.dispatchEvent(new Event("visibilitychange"));
};
window.connect = (transport) => {
  window.push?.close();
  Object.assign(state, { got: [], states: [], ready: false });
  window.push = new Pushd(undefined, { pauseHidden: true, transports: [transport] });
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
