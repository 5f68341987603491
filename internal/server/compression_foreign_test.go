package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/tooltest"
)

const foreignDir = "testdata/foreign"

// foreignResult is what a client of another library says of itself.
type foreignResult struct {
	Offer      any
	Extensions string
	Problem    *string
}

// foreign runs a client in a process of its own, and returns what it says.
func foreign(t *testing.T, r *running, command ...string) (results []foreignResult) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], "ws://"+r.Addr()+"/ws")...)
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, &complained)
	}
	for lines := bufio.NewScanner(&said); lines.Scan(); {
		var result foreignResult
		if err := json.Unmarshal(lines.Bytes(), &result); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		if result.Problem != nil {
			t.Errorf("%v: %s", result.Offer, *result.Problem)
		}
		results = append(results, result)
	}
	if len(results) == 0 {
		t.Fatalf("%v said nothing\n%s", command, &complained)
	}
	return results
}

// npm's ws, with every combination of its options.
func TestCompressionWithWS(t *testing.T) {
	node := tooltest.Find(t, "nodejs", "node")
	dir := npmInstall(t, foreignDir)
	r := start(t)
	results := foreign(t, r, node, filepath.Join(dir, "ws.cjs"))
	negotiated := 0
	for _, result := range results {
		offer, _ := result.Offer.(map[string]any)
		bits, limits := offer["serverMaxWindowBits"].(float64)
		want := result.Offer != false && (!limits || bits >= 12)
		if got := result.Extensions != ""; got != want {
			t.Errorf("%v: extensions %q", result.Offer, result.Extensions)
		}
		if want {
			negotiated++
		}
	}
	if c := r.encoder.deflater.Counts(); int(c.Messages) < 2*negotiated || negotiated < 100 {
		t.Errorf("%d clients negotiated compression, and %d messages were compressed", negotiated, c.Messages)
	}
}

// wantCompressed checks what clients negotiated who got a message each.
func wantCompressed(t *testing.T, r *running, results []foreignResult, extensions ...string) {
	t.Helper()
	for i, want := range extensions {
		if results[i].Extensions != want {
			t.Errorf("extensions %q, want %q", results[i].Extensions, want)
		}
	}
	if c := r.encoder.deflater.Counts(); int(c.Messages) != len(extensions) {
		t.Errorf("%d messages were compressed, want %d", c.Messages, len(extensions))
	}
}

// Node's own WebSocket, which offers compression unasked.
func TestCompressionWithNode(t *testing.T) {
	node := tooltest.Find(t, "nodejs", "node")
	r := start(t)
	results := foreign(t, r, node, "--no-warnings", "--experimental-websocket", foreignDir+"/own.cjs")
	wantCompressed(t, r, results, accepted)
}

// Python's websockets.
func TestCompressionWithPython(t *testing.T) {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import websockets").Run() != nil {
			continue
		}
		r := start(t)
		results := foreign(t, r, python, foreignDir+"/python.py")
		wantCompressed(t, r, results, accepted, accepted+"; server_max_window_bits=12")
		return
	}
	tooltest.Skip(t, "Python with websockets", "apt-get install python3-websockets")
}

// A page in a browser, which offers compression unasked.
func TestCompressionInBrowser(t *testing.T) {
	browser := browsertest.Start(t)
	r := start(t)
	tab := browser.Open("http://" + r.Addr() + "/")
	tab.Do(`
		window.data = {text: "äöü€ price ".repeat(400)};
		const ws = new WebSocket("ws://" + location.host + "/ws?topic=foreign.page");
		ws.onopen = () => ws.send(JSON.stringify({type: "publish", topic: "foreign.page", data}));
		ws.onmessage = (event) => {
			const message = JSON.parse(event.data);
			if (message.type === "message") {
				window.came = JSON.stringify(message.data);
				window.extensions = ws.extensions;
			}
		}`)
	tab.Want(`window.came === JSON.stringify(window.data)`)
	tab.Want(`window.extensions === "` + accepted + `"`)
	if c := r.encoder.deflater.Counts(); c.Messages != 1 {
		t.Errorf("%d messages were compressed, want 1", c.Messages)
	}
	browser.WantNoTrouble()
}
