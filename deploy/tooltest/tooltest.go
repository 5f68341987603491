// Package tooltest has tests say that they are skipped for want of something. It
// does what internal/tooltest of pushd's module does, which this one does not require,
// but that nothing fails under CI: `make tools` does not install what is missing here.
package tooltest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Record names the file to which Skip adds a line for each test that it skips, and
// which `make test` shows at its end.
const Record = "SKIPPED_TESTS"

// Find returns the path of a program. Where it is not installed the test is skipped.
func Find(t testing.TB, program, cure string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Skip(t, program, cure)
	}
	return path
}

// Skip skips a test for want of something, and says what cures that.
func Skip(t testing.TB, missing, cure string) {
	t.Helper()
	if file := os.Getenv(Record); file != "" {
		if err := record(file, fmt.Sprintf("no %s (%s): deploy %s\n", missing, cure, t.Name())); err != nil {
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
