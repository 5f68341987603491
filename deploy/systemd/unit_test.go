// Package systemd has the unit; its test tries it.
package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/pushd/pushd/deploy/binary"
	"github.com/pushd/pushd/deploy/tooltest"
)

// The binary takes what the unit gives it, and has the time to end that it needs by default.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	pushd, err := binary.Build("../..", dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("pushd.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(dir, "pushd.yaml")
	if err := os.WriteFile(settings, []byte("heartbeat: 30s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	unit := strings.NewReplacer("/usr/local/bin/pushd", pushd, "/etc/pushd/pushd.yaml", settings).Replace(string(text))
	value := func(key string) string {
		found := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(unit)
		if found == nil {
			t.Fatalf("the unit has no %s", key)
		}
		return found[1]
	}

	start := strings.Fields(value("ExecStart"))
	if len(start) < 2 || start[1] != "serve" {
		t.Fatalf("ExecStart=%v", start)
	}
	if said, err := exec.Command(pushd, append(strings.Fields(value("ExecReload"))[1:], "--help")...).CombinedOutput(); err != nil || !strings.Contains(string(said), "Usage: pushd upgrade") {
		t.Errorf("ExecReload: %v\n%s", err, said)
	}
	if kind, access := value("Type"), value("NotifyAccess"); kind != "notify" || access != "main" {
		t.Errorf("Type=%s and NotifyAccess=%s: systemd would not hear that another process is the main one", kind, access)
	}
	out, err := exec.Command(start[0], append([]string{"config"}, start[2:]...)...).Output()
	if err != nil {
		t.Fatalf("%v of the unit: %v", start, err)
	}
	var in map[string]any
	if err := yaml.Unmarshal(out, &in); err != nil {
		t.Fatal(err)
	}
	if in["heartbeat"] != "30s" || in["store"] != "/var/lib/"+value("StateDirectory") {
		t.Errorf("heartbeat is %v, and store %v", in["heartbeat"], in["store"])
	}
	var need time.Duration
	for _, key := range []string{"drain-grace", "drain-window", "shutdown-timeout"} {
		d, err := time.ParseDuration(in[key].(string))
		if err != nil {
			t.Fatal(err)
		}
		if need += d; key == "drain-window" {
			need += d/4 + 2*time.Second // for clients that do not leave when it ends
		}
	}
	if stop, err := time.ParseDuration(strings.TrimSuffix(value("TimeoutStopSec"), "in")); err != nil || stop <= need {
		t.Errorf("TimeoutStopSec is %v (%v), and the end takes up to %v", stop, err, need)
	}

	analyze := tooltest.Find(t, "systemd-analyze", "apt-get install systemd")
	file := filepath.Join(dir, "pushd.service")
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(analyze, "verify", file).CombinedOutput(); err != nil || strings.Contains(string(said), "pushd.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, said)
	}
}
