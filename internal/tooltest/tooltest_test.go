package tooltest

import (
	"os"
	"path/filepath"
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
