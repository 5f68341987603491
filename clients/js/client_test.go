// Package js has the tests of the JavaScript client, which run in Node and in
// a browser against a real pushd.
package js

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/tooltest"
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
// Node, or no registry can be reached, the test is skipped.
func install(t *testing.T) {
	t.Helper()
	tooltest.Find(t, "nodejs", "node")
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	const done = "node_modules/.installed"
	if was, err := os.ReadFile(done); err == nil && bytes.Equal(was, lock) {
		return
	}
	tooltest.Packages(t, ".", "clients/js")
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
