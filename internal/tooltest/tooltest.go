// Package tooltest finds the programs that tests need and Go does not bring.
package tooltest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// Record names the file to which Skip adds a line for each test that it skips; `make test`
// shows them at its end, for `go test` says of a package that has skipped all of it no more than "ok".
const Record = "SKIPPED_TESTS"

// Find returns the path of a program that has one of these names. Where there is none the
// test is skipped as by Skip.
func Find(t testing.TB, debian string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Skip(t, names[0], "apt-get install "+debian)
	return ""
}

// How long npm may take: for a person who waits, and under CI, where it fails a test.
const (
	patience   = 2 * time.Minute
	patienceCI = 5 * time.Minute
)

// unreached is what npm says where there is no network.
var unreached = regexp.MustCompile("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED")

// Packages has npm install what the package-lock.json of a folder names, and runs none of
// their scripts. Where npm reaches no registry, or a slow one, the test is skipped as
// by Skip.
func Packages(t testing.TB, folder, of string) {
	t.Helper()
	npm := Find(t, "npm", "npm")
	limit := patience
	if inCI() {
		limit = patienceCI
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")
	cmd.Dir = folder
	switch out, err := cmd.CombinedOutput(); {
	case err == nil:
	case unreached.Match(out), ctx.Err() != nil:
		Skip(t, "npm packages of "+of, "once with a registry that npm can reach within "+limit.String())
	default:
		t.Fatalf("npm cannot install what %s/package-lock.json names: %v\n%s", of, err, out)
	}
}

func inCI() bool { return os.Getenv("CI") != "" }

// Skip skips a test for want of something, and says what cures that. Under CI the
// test fails, since there all is wanted.
func Skip(t testing.TB, missing, cure string) {
	t.Helper()
	if inCI() {
		t.Fatalf("no %s (%s)", missing, cure)
	}
	if file := os.Getenv(Record); file != "" {
		if err := record(file, fmt.Sprintf("no %s (%s): %s\n", missing, cure, t.Name())); err != nil {
			t.Errorf("%s: %v", Record, err)
		}
	}
	t.Skipf("no %s to test with (%s)", missing, cure)
}

// record adds a line, whole: packages are tested at the same time.
func record(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
