package console_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/pushd/pushd/internal/tooltest"
)

// TestCharts fetches the package that charts/package-lock.json names by its
// checksum, and wants the copies to be what it has. Where there is no npm, or it
// reaches no registry, it is skipped; `make console-charts` makes the copies.
func TestCharts(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join("charts", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tooltest.Packages(t, folder, "internal/console/charts")
	for copied, original := range map[string]string{"uplot.js": "dist/uPlot.iife.min.js", "uplot.css": "dist/uPlot.min.css", "uplot-license.txt": "LICENSE"} {
		want, err := os.ReadFile(filepath.Join(folder, "node_modules/uplot", original))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("assets", copied))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("assets/%s is not %s of the package", copied, original)
		}
	}
}
