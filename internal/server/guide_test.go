package server

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/natstest"
)

// guideBlock is a fenced block of a document: ```console background, or
// ```html site/index.html, which is a file.
var guideBlock = regexp.MustCompile("(?ms)^```(\\w+) ?(\\S*)\n(.*?)^```$")

// TestGuide does what docs/GUIDE.md says, in its order: it writes the files and
// runs the commands, and wants to see what the guide shows. Only the ports
// differ, which may be taken.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := string(text)
	for port, flag := range map[string]string{"8080": "listen", "8000": "", "8081": "admin", "4222": "nats-listen"} {
		free := strconv.Itoa(natstest.FreePort(t))
		guide = strings.ReplaceAll(guide, ":"+port, ":"+free)
		guide = strings.ReplaceAll(guide, "site "+port, "site "+free)
		if flag != "" {
			guide = strings.Replace(guide, "```yaml pushd.yaml\n", fmt.Sprintf("```yaml pushd.yaml\n%s: 127.0.0.1:%s\n", flag, free), 1)
		}
	}
	g := &newcomer{t: t, dir: t.TempDir()}
	build(t, filepath.Join(g.dir, "bin", "pushd"))
	server := regexp.MustCompile(`new Pushd\("(.*?)"`).FindStringSubmatch(guide)[1]
	g.env = append(os.Environ(), "PUSHD_SERVER="+server)
	blocks := guideBlock.FindAllStringSubmatch(guide, -1)
	for _, block := range blocks {
		switch kind, name, body := block[1], block[2], block[3]; {
		case kind == "console" && name == "background":
			g.begin(strings.TrimPrefix(strings.TrimSpace(body), "$ "))
		case kind == "console":
			g.session(body)
		default:
			g.write(name, body)
		}
	}
	if g.began != 3 || g.compared < 3 {
		t.Errorf("%d commands in the background and %d lines compared: the guide is not read as it is written", g.began, g.compared)
	}
	page := regexp.MustCompile(`open <(http://.*?)>`).FindStringSubmatch(guide)[1]
	browser := browsertest.Start(t)
	g.run("curl -so /dev/null " + page) // Python has started too
	tab := browser.Open(page)
	tab.Want(`document.querySelector("#state").textContent === "open"`)
	tab.Want(`document.querySelectorAll("#quotes tr").length === 3`)
	tab.Do(`window.before = document.querySelector("#quotes").innerText`)
	tab.Want(`document.querySelector("#quotes").innerText !== window.before`)
}

// newcomer does what a guide says.
type newcomer struct {
	t        testing.TB
	dir      string
	env      []string
	began    int
	compared int
}

func (g *newcomer) write(name, body string) {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

func (g *newcomer) command(line string) *exec.Cmd {
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir, cmd.Env = g.dir, g.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// begin starts what runs in a terminal of its own until the test ends.
func (g *newcomer) begin(line string) {
	g.t.Helper()
	var said bytes.Buffer
	cmd := g.command(line)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // all that the shell started
		_ = cmd.Wait()                                      // it was told to end
		if g.t.Failed() {
			g.t.Logf("%s\n%s", line, said.Bytes())
		}
	})
	g.began++
}

// session runs each line that begins with $, and compares what it prints with
// what follows: … stands for anything.
func (g *newcomer) session(body string) {
	g.t.Helper()
	for _, part := range strings.Split("\n"+body, "\n$ ")[1:] {
		line, want, _ := strings.Cut(part, "\n")
		got := g.run(line)
		for _, w := range strings.Split(want, "\n") {
			if w = strings.TrimSpace(w); w == "" || w == "…" {
				continue
			}
			pattern := strings.ReplaceAll(regexp.QuoteMeta(w), "…", ".*")
			if !regexp.MustCompile("(?m)^" + pattern + "$").MatchString(got) {
				g.t.Errorf("%s\nprints\n%s\nand not\n%s", line, got, w)
			}
			g.compared++
		}
	}
}

// run tries for a while, as a person would while a server starts.
func (g *newcomer) run(line string) string {
	g.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		out, err := g.command(line).CombinedOutput()
		if err == nil {
			return string(out)
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%s\n%v\n%s", line, err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
