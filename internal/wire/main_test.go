package wire

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files from what the code does now")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wantGolden compares got with a golden file, which with -update it becomes.
func wantGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs: the protocol is stable, so this breaks clients\n got %s\nwant %s", path, got, want)
	}
}

// wantNoStrays fails for golden files of dir that no test case has any more.
func wantNoStrays(t *testing.T, dir string, names map[string]bool) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", "golden", dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !names[e.Name()] {
			t.Errorf("golden file %s/%s belongs to no case", dir, e.Name())
		}
	}
}

// mustID makes an id from its JSON text, the way a command brings it.
func mustID(t testing.TB, raw string) ID {
	t.Helper()
	var r Parser
	var c Command
	if err := r.Parse([]byte(`{"type":"ping","id":`+raw+`}`), &c); err != nil {
		t.Fatal(err)
	}
	return c.ID
}
