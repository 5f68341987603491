package config

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// documentHead is what stands before the tables. A variable of the shell in it
// would be one of pushd.
const documentHead = `# Configuration

Written by ` + "`pushd config --docs`" + ` from the definition in internal/config; a test holds this page to it.

A setting is a flag, an environment variable, or a key of the YAML file that ` + "`--config`" + ` names, which is the flag's name without its dashes
(` + "`--listen`" + ` is ` + "`listen:`" + `). A flag is stronger than the environment, which is stronger than the file. What takes several values is given several times as a
flag, with commas in the environment, and as a list in the file. Durations are such as ` + "`1m30s`" + `, sizes such as ` + "`64KiB`" + `.
An unknown key or variable is an error that names the nearest one. ` + "`pushd config`" + ` prints what is in force and where each value came from,
` + "`pushd config --check FILE`" + ` validates a file, ` + "`pushd doctor`" + ` looks at the machine and at NATS.
`

// Document writes the reference of all settings, as Markdown.
func Document(w io.Writer) error {
	d := document{}
	d.WriteString(documentHead)
	group := ""
	c := Default()
	for _, s := range settings(&c) {
		if s.Group.Key != group {
			group = s.Group.Key
			d.table(group, "flag", "variable", "default", "")
		}
		d.row(code("--"+s.Name), code(s.Envs[0]), d.value(s), s.Help)
	}
	d.table("Secrets", "variable", "instead of", "")
	d.row(code(envAdminToken), code("--admin-token-file"), "The token of operators itself. There is no such flag: flags show in the list of processes.")
	d.row(code(envTokenSecret), code("--token-secret-file"), "The secret of tokens itself.")
	d.nested()
	_, err := d.WriteTo(w)
	return err
}

// nested writes what the file alone has.
func (d *document) nested() {
	for _, part := range []struct {
		title, intro string
		group        any
	}{
		{"Namespaces", "Under `namespaces:`, by the first token of a topic, and under `default:` for those that are not named, which keep no history.", &Namespace{}},
		{"History", "Under `history:` of a namespace; `none` keeps nothing. One of the first three at least; whichever is reached first holds. Left out, `delivery: latest` keeps `{messages: 1}`.", &History{}},
		{"API keys", "A list under `api_keys:`; `pushd key NAME` makes a key, and prints the lines.", &APIKey{}},
		{"Client certificates", "Under `client_certificates:`, what those may do who show a certificate of `--tls-client-ca`.", &Permissions{}},
	} {
		d.WriteString("\n## " + part.title + "\n\n" + part.intro + "\n")
		d.head("key", "default", "")
		for _, s := range settings(part.group) {
			d.row(code(s.Name), d.value(s), s.Help)
		}
	}
}

type document struct{ bytes.Buffer }

func (d *document) table(title string, columns ...string) {
	d.WriteString("\n## " + title + "\n")
	d.head(columns...)
}

func (d *document) head(columns ...string) {
	d.WriteByte('\n')
	d.row(columns...)
	d.WriteString(strings.Repeat("| --- ", len(columns)) + "|\n")
}

func (d *document) row(cells ...string) {
	for i, cell := range cells {
		if i == len(cells)-1 {
			cell = prose(cell)
		}
		fmt.Fprintf(d, "| %s ", cell)
	}
	d.WriteString("|\n")
}

// value is the default, and what else there may be.
func (d *document) value(s *kong.Flag) string {
	value := "none"
	if s.HasDefault {
		value = code(s.Default)
	} else if s.Value.IsBool() {
		value = code("false")
	}
	if s.Enum != "" {
		value += " (" + strings.ReplaceAll(s.Enum, ",", ", ") + ")"
	}
	return value
}

func code(s string) string { return "`" + s + "`" }

// prose keeps a text from meaning something to Markdown, and shows flags as what they are.
func prose(s string) string {
	words := strings.Split(strings.NewReplacer("|", `\|`, "*", `\*`, "<", `\<`).Replace(s), " ")
	for i, word := range words {
		core := strings.Trim(word, "(),.:;'")
		if strings.HasPrefix(core, "--") || strings.HasPrefix(core, envPrefix) {
			words[i] = strings.Replace(word, core, code(core), 1)
		}
	}
	return strings.Join(words, " ")
}
