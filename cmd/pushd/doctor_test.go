package main

import (
	"os"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/natstest"
)

// The doctor takes what serve takes, and its exit status says how bad it is.
func TestDoctor(t *testing.T) {
	t.Chdir(t.TempDir())
	nats := natstest.Start(t, natstest.Store(t.TempDir()))
	dead := natstest.Start(t)
	dead.Kill()
	writeFile(t, "pushd.yaml", "namespaces: {scores: {delivery: all, history: {age: 1h}}}\n")
	writeFile(t, "token", strings.Repeat("t", 32))
	if err := os.Chmod("token", 0o604); err != nil {
		t.Fatal(err)
	}

	t.Setenv("PUSHD_LISTEN", "127.0.0.1:0") // what is on the usual ports of this machine is another matter
	t.Setenv("PUSHD_ADMIN", "127.0.0.1:0")
	t.Setenv("PUSHD_NATS_LISTEN", "127.0.0.1:0")

	got := runWith(testContext(t), "", "doctor", "--config=pushd.yaml", "--nats="+nats.URL())
	if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "ok       NATS: "+nats.URL()) || !strings.Contains(got.stdout, "ok       stream push_scores: not there yet") {
		t.Errorf("%+v", got)
	}
	got = runWith(testContext(t), "", "doctor", "--nats="+dead.URL())
	if got.code != 1 || !strings.Contains(got.stdout, "failure  NATS: ") || !strings.HasPrefix(got.stderr, "pushd: doctor found 1 failures") {
		t.Errorf("%+v", got)
	}
	for strict, code := range map[string]int{"--strict": 1, "--strict=false": 0} {
		got = runWith(testContext(t), "", "doctor", "--store=memory", "--admin-token-file=token", strict)
		if got.code != code || !strings.Contains(got.stdout, "warning  admin token: ") || !strings.Contains(got.stdout, "         change: chmod o-r token\n") {
			t.Errorf("%s: %+v", strict, got)
		}
	}
	if got := runWith(testContext(t), "", "doctor", "--shards=99"); got.code != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, "pushd: --shards is 99") {
		t.Errorf("settings that are none: %+v", got)
	}
}
