package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// Write prints c as a file that sets the same, each value with a comment that
// says where it came from.
func Write(w io.Writer, c *Config, sources Sources) error {
	p := printer{sources: sources}
	for _, s := range settings(c) {
		switch {
		case slices.Contains(neverEmpty, s.Name) && s.Target.Len() == 0:
			p.line("# "+s.Name+":", p.sources.of(s.Name)) // what is left out is no empty value
		case s.Name != keyConfig:
			p.value("", s)
		case c.File != "":
			p.line("# "+keyConfig+": "+c.File, sources.of(keyConfig)) // no key of a file
		}
	}
	p.identities(c)
	p.namespace(keyDefault, c.Default)
	if len(c.Namespaces) == 0 {
		p.line(keyNamespaces+": {}", sourceDefault)
	} else {
		p.line(keyNamespaces+":", "")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		p.namespace(keyNamespaces+"."+name, c.inForce(name))
	}

	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := p.out.WriteTo(columns); err != nil {
		return err
	}
	return columns.Flush()
}

// inForce returns the settings of a namespace that is named, with the defaults
// that depend on other settings.
func (c *Config) inForce(name string) Namespace {
	ns := c.Namespaces[name]
	if ns.KeepsHistory() {
		ns.Subject = c.SubjectOf(name)
	}
	if ns.History != (History{}) {
		ns.History.Replicas = max(1, ns.History.Replicas)
		ns.History.Storage = c.StorageOf(ns.History)
	}
	return ns
}

type printer struct {
	sources Sources
	out     bytes.Buffer // lines, with a tab before the comment
}

func (p *printer) line(text, source string) {
	p.out.WriteString(text)
	if source != "" {
		p.out.WriteString("\t# " + source)
	}
	p.out.WriteByte('\n')
}

// head prints the key that opens a mapping. The depth of path, whose tokens
// have no dots in them, is its indentation.
func (p *printer) head(path string) {
	p.line(indent(path)+scalarText(path[strings.LastIndexByte(path, '.')+1:])+":", "")
}

func (p *printer) namespace(path string, ns Namespace) {
	p.head(path)
	for _, s := range settings(&ns) {
		if s.Target.Kind() != reflect.String || s.Target.Len() > 0 { // a stream and a subject are not every namespace's
			p.value(path, s)
		}
	}
	history := join(path, keyHistory)
	if ns.History == (History{}) {
		p.line(indent(history)+keyHistory+": "+noneWord, p.sources.of(history))
		return
	}
	p.head(history)
	for _, s := range settings(&ns.History) {
		p.value(history, s)
	}
}

func (p *printer) value(path string, s *kong.Flag) {
	path = join(path, s.Name)
	p.line(indent(path)+s.Name+": "+text(s.Target), p.sources.of(path))
}

func indent(path string) string { return strings.Repeat("  ", strings.Count(path, ".")) }

// text writes a value the way it is read.
func text(value reflect.Value) string {
	switch v := value.Interface().(type) {
	case fmt.Stringer: // sizes and durations
		return v.String()
	case []string:
		if len(v) == 0 {
			return "[]"
		}
		return quote(v)
	}
	if value.Kind() == reflect.String {
		return scalarText(value.String())
	}
	return fmt.Sprint(value)
}

// scalarText quotes a string where YAML would read it as something else.
func scalarText(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return quote(s)
	}
	plain, err := yaml.Marshal(s)
	if err != nil {
		return quote(s)
	}
	return strings.TrimSuffix(string(plain), "\n")
}

// quote writes JSON, which is YAML on one line.
func quote(v any) string {
	var quoted strings.Builder
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false) // patterns have >
	if err := encoder.Encode(v); err != nil {
		panic(err) // strings have a JSON form
	}
	return strings.TrimSuffix(quoted.String(), "\n")
}
