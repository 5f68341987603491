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
	"poller":               {},                                          // knows no WebSocket
	"conn":                 {"internal/gate", "internal/via", "poller"}, // knows no topic
	"topics":               {},                                          // knows neither sockets nor NATS
	"topics/natsbus":       {"topics"},
	"internal/wire":        {},                                          // the protocol alone, so that it can be read and tested alone
	"internal/config":      {"internal/auth", "internal/via", "topics"}, // what a valid permission, network, and name is
	"internal/handover":    {"conn", "poller", "topics"},                // what it carries; it knows no server
	"internal/gate":        {"internal/via"},                            // addresses alone: it knows no socket
	"internal/via":         {},
	"internal/auth":        {"topics"}, // what a pattern is
	"internal/certs":       {},
	"internal/certstest":   {},
	"internal/demofeed":    {},
	"internal/hostfeed":    {},
	"internal/page":        {"internal/static"},
	"internal/cluster":     {"internal/statistics"}, // what other nodes say; it speaks to nobody
	"internal/console":     {"internal/static"},
	"internal/static":      {},         // what all pages have in common
	"internal/statistics":  {},         // what a node says, without what it says it of
	"internal/tracing":     {"topics"}, // what it is told of a message's way
	"internal/tracetest":   {},
	"internal/browsertest": {"internal/tooltest"},
	"internal/tooltest":    {},
	"internal/natstest":    {},
	"internal/peertest":    {"internal/wire"},
	"clients/go":           {}, // who copies it has all of it
	"internal/server":      {"conn", "internal/auth", "internal/certs", "internal/cluster", "internal/config", "internal/console", "internal/demofeed", "internal/gate", "internal/handover", "internal/hostfeed", "internal/page", "internal/statistics", "internal/tracing", "internal/via", "internal/wire", "poller", "topics", "topics/natsbus"},
	"cmd/pushd":            {"clients/go", "internal/auth", "internal/config", "internal/doctor", "internal/handover", "internal/server", "internal/statistics", "internal/wire", "topics"},
	"internal/doctor":      {"conn", "internal/auth", "internal/certs", "internal/config", "internal/server", "topics/natsbus"}, // it tries what the server will use
	"clients/js":           {"internal/browsertest", "internal/wire"},                                                           // the table of close codes is the same
	"bench/echo":           {"conn", "poller"},                                                                                  // nothing but the two, or it would measure something else
	"bench/scale":          {"bench/load", "conn", "poller", "topics"},                                                          // what it simulates, and what drives real ones
	"bench/load":           {"bench/load"},                                                                                      // drives any server, so it knows none
	"bench/pushbench":      {"bench/load"},
	"bench/compare":        {"bench/load"},
}

// outside says who may import a library, or who may not, with the reason.
// Who is named stands for what is below it too.
var outside = []struct {
	library string
	only    []string
	never   []string
	reason  string
}{
	{library: "github.com/nats-io/nats.go", only: []string{"bench", "internal/natstest", "topics/natsbus"}, reason: "NATS stays behind topics.Bus"},
	{library: "github.com/nats-io/nats-server/v2", only: []string{"bench", "internal/natstest", "topics/natsbus"}, reason: "NATS stays behind topics.Bus"},
	{library: "github.com/mailru/easygo", only: []string{"poller"}, reason: "it is one backend, and its traps are known there"},
	{library: "github.com/gobwas/ws", only: []string{"bench", "clients", "conn", "internal/handover", "internal/peertest", "internal/server"}, reason: "frames are the matter of conn, of who answers them, and of clients"},
	{library: "github.com/klauspost/compress", only: []string{"bench", "conn"}, reason: "messages are compressed where frames are made, once for all, and clients of load tests inflate them"},
	{library: "github.com/prometheus/client_golang", only: []string{"internal/server"}, reason: "packages count for themselves; the server shows it"},
	{library: "github.com/golang-jwt/jwt/v5", only: []string{"internal/auth"}, reason: "who somebody is, is decided in one place"},
	{library: "github.com/MicahParks/jwkset", only: []string{"internal/auth"}, reason: "who somebody is, is decided in one place"},
	{library: "go.opentelemetry.io", only: []string{"internal/tracetest", "internal/tracing"}, reason: "who traces is not known where messages go"},
	{library: "golang.org/x/sys", never: []string{"internal/wire", "topics"}, reason: "topics and wire speak to no kernel"},
	{library: "net", never: []string{"internal/wire", "topics"}, reason: "topics and wire have no sockets"},
	{library: "net/http", never: []string{"internal/wire", "poller", "topics"}, reason: "HTTP begins where a request is read"},
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
		allowed, known := ruleOf(pkg)
		if !known {
			t.Errorf("package %s has no rule yet: say in this test what it may import, and why", pkg)
		}
		for _, imported := range fields[1:] {
			if name, ours := strings.CutPrefix(imported, module); ours && !slices.ContainsFunc(allowed, covers(name)) {
				t.Errorf("%s imports %s, and may import only %v of the project", pkg, name, allowed)
			}
			for _, law := range outside {
				switch {
				case imported != law.library && (!strings.Contains(law.library, ".") || !strings.HasPrefix(imported, law.library+"/")):
				case law.only != nil && !slices.ContainsFunc(law.only, covers(pkg)):
					t.Errorf("%s imports %s: only %v may, since %s", pkg, imported, law.only, law.reason)
				case slices.Contains(law.never, pkg):
					t.Errorf("%s imports %s, and must not: %s", pkg, imported, law.reason)
				}
			}
		}
	}
}

// ruleOf finds the rule of a package: its own, or that of the nearest above it.
func ruleOf(pkg string) (allowed []string, known bool) {
	for {
		if allowed, known = inside[pkg]; known {
			return allowed, true
		}
		i := strings.LastIndex(pkg, "/")
		if i < 0 {
			return nil, false
		}
		pkg = pkg[:i]
	}
}

// covers reports whether a name stands for a package: itself, or what is below it.
func covers(pkg string) func(name string) bool {
	return func(name string) bool { return pkg == name || strings.HasPrefix(pkg, name+"/") }
}
