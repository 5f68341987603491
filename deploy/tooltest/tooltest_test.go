package tooltest

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skipped")
	t.Setenv(Record, file)
	if path := Find(t, "go", "install Go"); filepath.Base(path) != "go" {
		t.Errorf("go is at %q", path)
	}
	for range 2 {
		t.Run("missing", func(t *testing.T) {
			Find(t, "no-such-go", "install it")
			t.Error("it goes on")
		})
	}
	got, err := os.ReadFile(file)
	if want := "no no-such-go (install it): deploy TestFind/missing\nno no-such-go (install it): deploy TestFind/missing#01\n"; err != nil || string(got) != want {
		t.Errorf("recorded %q (%v), want %q", got, err, want)
	}
}
