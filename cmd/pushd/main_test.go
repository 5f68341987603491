package main

import (
	"bytes"
	"context"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pushd/pushd/internal/natstest"
)

func TestMain(m *testing.M) {
	natstest.Main()
	for _, entry := range os.Environ() { // the settings of whoever runs the tests are none of theirs
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "PUSHD_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

// testTimeout bounds whatever a test waits for. It is no expectation: each
// thing takes milliseconds on an idle machine.
const testTimeout = 30 * time.Second

// testContext ends with the test, or when it hangs.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// output is a writer that can be read while somebody writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// result is what a run of the program left behind.
type result struct {
	code           int
	stdout, stderr string
}

func runWith(ctx context.Context, stdin string, args ...string) result {
	var stdout, stderr output
	p := program{path: "./bin/pushd", stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr}
	code := p.run(ctx, args)
	return result{code, stdout.String(), stderr.String()}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		stderr string // "" where the answer is on stdout, and no error
	}{
		{[]string{"--help"}, ""},
		{[]string{"serve", "--help"}, ""},
		{[]string{"feed", "--help"}, ""},
		{[]string{"sbscribe", "x"}, "pushd: error: unexpected argument sbscribe\n"},
		{[]string{"--listn=x"}, "pushd: error: unknown flag --listn, did you mean \"--listen\"?\n"},
		{[]string{"serve", "--shards=two"}, "pushd: error: --shards: expected a valid 64 bit int but got \"two\"\n"},
		{[]string{"serve", "--poller=kqueue"}, "pushd: error: --poller must be one of \"epoll\",\"easygo\" but got \"kqueue\"\n"},
		{[]string{"subscribe"}, "pushd: error: expected \"<topic> ...\"\n"},
		{[]string{"publish"}, "pushd: error: expected \"<topic>\"\n"},
		{[]string{"feed", "x.csv"}, "pushd: error: missing flags: --topic=TEMPLATE\n"},
	} {
		got := runWith(testContext(t), "", test.args...)
		if test.stderr == "" {
			if got.code != 0 || got.stderr != "" || !strings.HasPrefix(got.stdout, "Usage: pushd ") {
				t.Errorf("%q: %+v", test.args, got)
			}
		} else if got.code != 80 || got.stderr != test.stderr || got.stdout != "" {
			t.Errorf("%q: code %d, %q; want 80, %q", test.args, got.code, got.stderr, test.stderr)
		}
	}
}

// What fails is told in one line each, and the exit code is 1.
func TestMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "bad.yaml", "lisen: x\nshards: 99\n")
	writeFile(t, "good.yaml", "heartbeat: 30s\n")
	for _, test := range []struct {
		args   []string
		stderr string
	}{
		{[]string{"serve", "--listen=:0"},
			"pushd: --listen :0 can be reached from beyond this machine, without authentication: use 127.0.0.1, give --token-secret-file, --token-key, --jwks-url, --tls-client-ca or api_keys:, or add --open if that is meant\n"},
		{[]string{"--shards=65", "--heartbeat=1ms"},
			"pushd: --heartbeat is 1ms, but must be 1s to 1h0m0s\npushd: --shards is 65, but must be 0 to 64\n"},
		{[]string{"config", "--config=none.yaml"}, "pushd: --config: open none.yaml: no such file or directory\n"},
		{[]string{"config", "--check=bad.yaml"}, "pushd: bad.yaml:1:1: unknown key \"lisen\", the nearest known is \"listen\"\n"},
		{[]string{"publish", "a b", "x"}, "pushd: topic \"a b\": token 1 (byte 1) has \" \", which is none of A-Z a-z 0-9 _ -\n"},
		{[]string{"publish", "--server=ftp://x", "a", "x"}, "pushd: --server is \"ftp://x\", but must be a URL such as http://127.0.0.1:8080\n"},
		{[]string{"subscribe", "--server=http://", "a"}, "pushd: --server is \"http://\", but must be a URL such as http://127.0.0.1:8080\n"},
		{[]string{"subscribe", "--count=-1", "a"}, "pushd: --count is -1, but must be 0 or more\n"},
		{[]string{"feed", "--topic=a.{b", "x"}, "pushd: --topic is \"a.{b\", but has a \"{\" with no \"}\" behind it\n"},
		{[]string{"feed", "--topic=a", "--rate=-1", "x"}, "pushd: --rate is -1, but must be 0 or more\n"},
		{[]string{"feed", "--topic=a", "--loop", "-"}, "pushd: --loop needs a file: standard input cannot be read twice\n"},
		{[]string{"feed", "--topic=a", "none.csv"}, "pushd: stat none.csv: no such file or directory\n"},
		{[]string{"feed", "--topic=a", "."}, "pushd: . is a directory\n"},
	} {
		got := runWith(testContext(t), "", test.args...)
		if got.code != 1 || got.stderr != test.stderr || got.stdout != "" {
			t.Errorf("%q: code %d\ngot  %q\nwant %q", test.args, got.code, got.stderr, test.stderr)
		}
	}
	if got := runWith(testContext(t), "", "config", "--check=good.yaml"); got != (result{0, "good.yaml is valid\n", ""}) {
		t.Errorf("a valid file: %+v", got)
	}
}

// What config prints says where a value came from, and is a file for --config.
func TestConfigCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "pushd.yaml", "heartbeat: 30s\nnamespaces: {user: {interest: topic}, stocks: {delivery: latest}, log: {history: {age: 1h}}, orders: {delivery: all, stream: ORDERS}}\n")
	t.Setenv("PUSHD_SHARDS", "3")
	first := runWith(testContext(t), "", "config", "--config=pushd.yaml", "--listen=127.0.0.1:0")
	if first.code != 0 || first.stderr != "" {
		t.Fatalf("%+v", first)
	}
	for _, want := range []string{"pushd.yaml:1:12", "env PUSHD_SHARDS", "flag --listen"} {
		if strings.Count(first.stdout, "# "+want+"\n") != 1 {
			t.Errorf("no value from %q in\n%s", want, first.stdout)
		}
	}
	writeFile(t, "printed.yaml", first.stdout)
	if err := os.Unsetenv("PUSHD_SHARDS"); err != nil {
		t.Fatal(err)
	}
	second := runWith(testContext(t), "", "config", "--config=printed.yaml")
	if second.code != 0 {
		t.Fatalf("%+v", second)
	}
	if want, got := values(first.stdout), values(second.stdout); want != got {
		t.Errorf("settings changed on the way through a file:\n%s\nbecame\n%s", want, got)
	}
}

// The reference comes from the definition, and needs no configuration that is valid.
func TestConfigDocs(t *testing.T) {
	t.Setenv("PUSHD_SHARDS", "99")
	got := runWith(testContext(t), "", "config", "--docs")
	if got.code != 0 || got.stderr != "" || !strings.HasPrefix(got.stdout, "# Configuration\n") {
		t.Errorf("code %d, %q, %.100q", got.code, got.stderr, got.stdout)
	}
}

// values drops the comments of a printed configuration.
func values(config string) string {
	var kept []string
	for line := range strings.Lines(config) {
		value, _, _ := strings.Cut(line, "# ")
		kept = append(kept, strings.TrimRight(value, " \n"))
	}
	return strings.TrimLeft(strings.Join(kept, "\n"), "\n")
}

func TestVersion(t *testing.T) {
	got := runWith(testContext(t), "", "version")
	if got.code != 0 || got.stderr != "" || !strings.HasPrefix(got.stdout, "pushd ") || !strings.Contains(got.stdout, " go1.") {
		t.Errorf("%+v", got)
	}
	info := debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc123"}, {Key: "vcs.modified", Value: "true"}}}
	info.Main.Version = "v1.2.3"
	if got, want := describeBuild(&info), "pushd v1.2.3, commit abc123 (modified), go"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q…", got, want)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
