package server

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pushd/pushd/"

// inside says which packages of the project each of them may import. Imports
// run one way: from the program down to what knows least.
var inside = map[string][]string{
	"poller":               {},         // knows no WebSocket
	"conn":                 {"poller"}, // knows no topic
	"topics":               {},         // knows neither sockets nor NATS
	"topics/natsbus":       {"topics"},
	"internal/wire":        {},         // the protocol alone, so that it can be read and tested alone
	"internal/config":      {"topics"}, // what a valid name is
	"internal/hostfeed":    {},
	"internal/page":        {},
	"internal/browsertest": {},
	"internal/natstest":    {},
	"internal/server":      {"conn", "internal/config", "internal/hostfeed", "internal/page", "internal/wire", "poller", "topics", "topics/natsbus"},
	"cmd/pushd":            {"internal/config", "internal/server", "internal/wire", "topics"},
	"bench/echo":           {"conn", "poller"}, // nothing but the two, or it would measure something else
}

// outside says which packages may import a library, with the reason.
var outside = []struct {
	library string
	by      []string
	reason  string
}{
	{"github.com/nats-io/nats.go", []string{"topics/natsbus"}, "NATS stays behind topics.Bus"},
	{"github.com/nats-io/nats-server/v2", []string{"topics/natsbus", "internal/natstest"}, "as its client does"},
	{"github.com/mailru/easygo", []string{"poller"}, "it is one backend, and its traps are known there"},
	{"github.com/gobwas/ws", []string{"bench/echo", "cmd/pushd", "conn", "internal/server"}, "frames are the matter of conn, of who answers them, and of clients"},
	{"github.com/prometheus/client_golang", []string{"internal/server"}, "packages count for themselves; the server shows it"},
	{"golang.org/x/sys", []string{"conn", "internal/hostfeed", "internal/natstest", "internal/server", "poller", "topics/natsbus"}, "topics and wire speak to no kernel"},
	{"net", []string{"cmd/pushd", "conn", "internal/config", "internal/natstest", "internal/server", "poller", "topics/natsbus", "bench/echo"}, "topics and wire have no sockets"},
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg, ours := strings.CutPrefix(fields[0], module)
		if !ours {
			t.Errorf("package %s is outside the layout", fields[0])
			continue
		}
		allowed, known := inside[pkg]
		if !known {
			t.Errorf("package %s has no rule yet: say in this test what it may import, and why", pkg)
		}
		for _, imported := range fields[1:] {
			if name, ours := strings.CutPrefix(imported, module); ours && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s, and may import only %v of the project", pkg, name, allowed)
			}
			for _, law := range outside {
				if (imported == law.library || strings.Contains(law.library, ".") && strings.HasPrefix(imported, law.library+"/")) && !slices.Contains(law.by, pkg) {
					t.Errorf("%s imports %s: only %v may, since %s", pkg, imported, law.by, law.reason)
				}
			}
		}
	}
}
