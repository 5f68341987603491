package config

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

const page = "../../docs/CONFIGURATION.md"

// The page in docs is what the definition says.
func TestDocument(t *testing.T) {
	var want bytes.Buffer
	if err := Document(&want); err != nil {
		t.Fatal(err)
	}
	is, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(is, want.Bytes()) {
		t.Errorf("%s is not what the definition says: go run ./cmd/pushd config --docs > docs/CONFIGURATION.md", page)
	}
}

// Every setting is there, with all that is to be known of it.
func TestDocumentIsWhole(t *testing.T) {
	var text bytes.Buffer
	if err := Document(&text); err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for line := range strings.Lines(text.String()) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `") {
			rows[strings.Trim(cells[0], "| `")] = line
		}
	}
	c := Default()
	for _, s := range settings(&c) {
		row := rows["--"+s.Name]
		if !strings.Contains(row, "`"+s.Envs[0]+"`") || s.HasDefault && !strings.Contains(row, "`"+s.Default+"`") || s.Help == "" || s.Group == nil {
			t.Errorf("--%s: %q", s.Name, row)
		}
	}
	for _, group := range []any{&Namespace{}, &History{}, &APIKey{}, &Permissions{}} {
		for _, s := range settings(group) {
			if rows[s.Name] == "" || s.Help == "" {
				t.Errorf("%T: %s is not explained", group, s.Name)
			}
		}
	}
	for _, name := range secretVariables {
		if rows[name] == "" {
			t.Errorf("%s is not explained", name)
		}
	}
}

func TestProse(t *testing.T) {
	for in, want := range map[string]string{
		"as --max-message, or *":   "as `--max-message`, or \\*",
		"a|b (PUSHD_ADMIN_TOKEN).": "a\\|b (`PUSHD_ADMIN_TOKEN`).",
	} {
		if got := prose(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
