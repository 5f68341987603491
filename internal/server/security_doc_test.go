package server

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testNamed   = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`")
	testDefined = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9]+)\(\w+ \*testing\.[TF]\)`)
	linked      = regexp.MustCompile(`\]\(([^)#]+)`)
)

// TestThreats reads docs/SECURITY.md: each threat has a defence, and a test
// that is there.
func TestThreats(t *testing.T) {
	const root = "../.."
	page, err := os.ReadFile(root + "/docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	defined := testsBelow(t, root)
	threats, inTable := 0, false
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "| threat |"):
			inTable = true
			continue
		case !strings.HasPrefix(line, "|"):
			inTable = false
		}
		if !inTable || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| **") { // … a heading
			continue
		}
		threats++
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 3 || cells[0] == "" || cells[1] == "" {
			t.Errorf("not a threat, what stops it, and a test: %s", line)
			continue
		}
		names := testNamed.FindAllStringSubmatch(cells[2], -1)
		if len(names) == 0 {
			t.Errorf("no test is named: %s", line)
		}
		for _, name := range names {
			if !defined[name[1]] {
				t.Errorf("there is no %s, which is to show: %s", name[1], cells[0])
			}
		}
	}
	if threats < 50 {
		t.Errorf("%d threats were found: the table is not read", threats)
	}
	for _, link := range linked.FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(filepath.Join(root, "docs", link[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
}

// testsBelow are the names of all tests of the module.
func testsBelow(t *testing.T, root string) map[string]bool {
	t.Helper()
	defined := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range testDefined.FindAllSubmatch(text, -1) {
			defined[string(name[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return defined
}
