package tooltest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

func TestFind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skipped")
	t.Setenv(Record, file)
	t.Setenv("CI", "")
	if path := Find(t, "golang", "no-such-go", "go"); filepath.Base(path) != "go" {
		t.Errorf("go is at %q", path)
	}
	for range 2 {
		t.Run("missing", func(t *testing.T) {
			Find(t, "no-package", "no-such-go", "nor-such")
			t.Error("it goes on")
		})
	}
	got, err := os.ReadFile(file)
	if want := "no no-such-go (apt-get install no-package): TestFind/missing\n" +
		"no no-such-go (apt-get install no-package): TestFind/missing#01\n"; err != nil || string(got) != want {
		t.Errorf("recorded %q (%v), want %q", got, err, want)
	}
}

// failing stands for a test that ends as it wants.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// Under CI whatever is missing fails the test, also what Find does not look for.
func TestSkipInCI(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skipped")
	t.Setenv(Record, file)
	t.Setenv("CI", "1")
	empty := t.TempDir() // has no package-lock.json
	t.Setenv("PATH", empty)
	for _, tc := range []struct {
		name, want string
		do         func(t testing.TB)
	}{
		{"a program", "no such (apt-get install package)", func(t testing.TB) { Find(t, "package", "such") }},
		{"npm", "no npm (apt-get install npm)", func(t testing.TB) { Packages(t, empty, "x") }},
		{"anything", "no module (find one)", func(t testing.TB) { Skip(t, "module", "find one") }},
	} {
		f := &failing{TB: t}
		var running sync.WaitGroup
		running.Go(func() { tc.do(f) })
		running.Wait()
		if f.said != tc.want {
			t.Errorf("%s: it fails with %q, want %q", tc.name, f.said, tc.want)
		}
	}
	if t.Skipped() {
		t.Error("it is skipped")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("what failed is listed as skipped")
	}
}
