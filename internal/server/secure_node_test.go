package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/tooltest"
)

// Node's own WebSocket talks to it.
func TestSecuredNode(t *testing.T) {
	path := tooltest.Find(t, "nodejs", "node")
	s := startSecured(t)
	cmd := exec.Command(path, "--experimental-websocket", "-e", fmt.Sprintf(`
		if (typeof WebSocket === "undefined") { console.log("no WebSocket"); process.exit() }
		const ws = new WebSocket("wss://%s/ws?topic=a.b");
		ws.onerror = (e) => console.log("failed", e.message);
		ws.onmessage = (e) => {
			const m = JSON.parse(e.data);
			if (m.type === "subscribed") ws.send(JSON.stringify({type: "publish", topic: "a.b", data: "x".repeat(40000)}));
			if (m.type === "message") { console.log("got " + m.data.length); ws.close(); }
		}`, s.Addr()))
	cmd.Env = append(cmd.Environ(), "NODE_EXTRA_CA_CERTS="+s.authority.File())
	out, err := cmd.CombinedOutput()
	switch {
	case strings.Contains(string(out), "no WebSocket"), strings.Contains(string(out), "bad option"):
		t.Skip("this Node has no WebSocket")
	case err != nil || !strings.Contains(string(out), "got 40000\n"):
		t.Errorf("%v: %s", err, out)
	}
}

// The package that most programs for Node use, ws, talks to it over either version of TLS: a
// publication in several frames, its message, a ping, and a close that both sides say.
func TestSecuredWS(t *testing.T) {
	dir := npmInstall(t, foreignDir)
	node := tooltest.Find(t, "nodejs", "node")
	for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
		t.Run(version, func(t *testing.T) {
			s := startSecured(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, node, "secure.mjs", fmt.Sprintf("wss://%s/ws?topic=a.b", s.Addr()), s.authority.File(), version)
			cmd.Dir = dir
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			var saw struct {
				TLS, Pong, Error string
				Replies          []string
				Length, Closed   int
			}
			if err := json.Unmarshal(out, &saw); err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			replies := slices.Sorted(slices.Values(saw.Replies)) // the message and the reply to its publication are in no order
			if want := []string{"message", "published", "subscribed", "welcome"}; err != nil || !slices.Equal(replies, want) {
				t.Errorf("replies %q, want %q: %v", replies, want, err)
			}
			if saw.TLS != version || saw.Length != 40_000 || saw.Pong != "still there?" || saw.Closed != 1000 || saw.Error != "" {
				t.Errorf("the client saw %+v", saw)
			}
			handshakes := `pushd_tls_handshakes_total{result="full",version="` + strings.TrimPrefix(version, "TLSv") + `"}`
			if n := series(s.adminGet("/metrics"), handshakes); n != 1 {
				t.Errorf("%s %d, want 1", handshakes, n)
			}
		})
	}
}

// npmInstall copies a folder with a package.json and its lock, and returns where it is with what they name.
func npmInstall(t testing.TB, from string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "package")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	tooltest.Packages(t, dir, "internal/server/"+from)
	return dir
}
