package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
)

// What is printed is a file as it stands, with the hash of the key that it shows.
func TestKey(t *testing.T) {
	t.Chdir(t.TempDir())
	seen := make(map[string]bool)
	for _, name := range []string{"billing", `a "quoted" name: # no comment`, "ключ"} {
		got := runWith(testContext(t), "", "key", name)
		if got.code != 0 || got.stderr != "" {
			t.Fatalf("%q: %+v", name, got)
		}
		plain := regexp.MustCompile(`(?m)^# (pushd_[0-9a-f]{64})$`).FindStringSubmatch(got.stdout)
		if plain == nil || seen[plain[1]] || !strings.Contains(got.stdout, "hash: "+auth.HashAPIKey(plain[1])+"\n") {
			t.Fatalf("no key, one that was there before, or not its hash:\n%s", got.stdout)
		}
		seen[plain[1]] = true
		writeFile(t, "pushd.yaml", got.stdout)
		if err := config.Check("pushd.yaml"); err != nil {
			t.Errorf("%v:\n%s", err, got.stdout)
		}
		if printed := runWith(testContext(t), "", "config", "--config=pushd.yaml"); printed.code != 0 || strings.Contains(printed.stdout, plain[1]) {
			t.Errorf("%+v", printed)
		}
	}
	if got := runWith(testContext(t), "", "key", "a\tb"); got.code != 1 || got.stderr != "pushd: the name has control characters\n" {
		t.Errorf("%+v", got)
	}
}
