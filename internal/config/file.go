package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Keys of the file that are no flags, and the word for keeping nothing.
const (
	keyNamespaces = "namespaces"
	keyDefault    = "default"
	keyHistory    = "history"
	keyConfig     = "config" // a flag, but no key: a file names no file
	noneWord      = "none"
)

// file reads one YAML file into a Config. It walks the syntax tree instead of
// unmarshalling, so that whatever is wrong has a line and a column.
type file struct {
	path    string
	sources Sources // in: what is stronger than the file; out: also what it set
	errs    []error
}

// read applies the file to c, and returns all that is wrong with it.
func (f *file) read(c *Config) error {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	return errors.Join(f.parse(c, text)...)
}

func (f *file) parse(c *Config, text []byte) []error {
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		var located yaml.Error
		if errors.As(err, &located) && located.GetToken() != nil {
			return []error{f.errorf(located.GetToken(), "%s", located.GetMessage())}
		}
		return []error{fmt.Errorf("%s: %w", f.path, err)}
	}
	for i, document := range tree.Docs {
		switch {
		case document.Body == nil: // nothing but comments
		case i > 0:
			f.failf(document.Body, "a second document: the settings belong into one")
		default:
			f.settings(c, document.Body)
		}
	}
	return f.errs
}

func (f *file) settings(c *Config, root ast.Node) {
	known := settings(c)
	for i, s := range known {
		if s.Name == keyConfig {
			known = append(known[:i], known[i+1:]...)
			break
		}
	}
	f.mapping("", root, known, map[string]func(ast.Node){
		keyAPIKeys:      func(node ast.Node) { f.apiKeys(node, &c.APIKeys) },
		keyCertificates: func(node ast.Node) { f.certificates(node, &c.ClientCertificates) },
		keyDefault:      func(node ast.Node) { f.namespace(keyDefault, node, &c.Default) },
		keyNamespaces: func(node ast.Node) {
			c.Namespaces = make(map[string]Namespace)
			f.each(keyNamespaces, node, func(name string, key, value ast.Node) {
				var ns Namespace
				applyDefaults(&ns)
				path := keyNamespaces + "." + name
				f.sources[path] = f.at(key)
				f.namespace(path, value, &ns)
				c.Namespaces[name] = ns
			})
		},
	})
}

func (f *file) namespace(path string, node ast.Node, ns *Namespace) {
	history := path + "." + keyHistory
	f.mapping(path, node, settings(ns), map[string]func(ast.Node){
		keyHistory: func(node ast.Node) { f.history(history, node, &ns.History) },
	})
	if ns.Delivery == DeliveryLatest && f.sources[history] == "" && !ns.KeepsHistory() && path != keyDefault {
		ns.History.Messages = 1 // which is all that it takes
	}
}

// history reads "none", or a mapping of bounds.
func (f *file) history(path string, node ast.Node, h *History) {
	f.sources[path] = f.at(node)
	if word, ok := scalar(node); ok && word == noneWord {
		*h = History{}
		return
	}
	if _, ok := node.(ast.MapNode); !ok {
		f.failf(node, "%s: must be %s, or a mapping with age, bytes or messages", path, noneWord)
		return
	}
	before := len(f.errs)
	f.mapping(path, node, settings(h), nil)
	if *h == (History{}) && len(f.errs) == before {
		f.failf(node, "%s: keeps nothing as it stands: give age, bytes or messages more than 0, or write %s", path, noneWord)
	}
}

// mapping reads a mapping whose keys are settings, or one of the others.
func (f *file) mapping(path string, node ast.Node, known []*kong.Flag, others map[string]func(ast.Node)) {
	byName := make(map[string]*kong.Flag, len(known))
	var names []string
	for _, s := range known {
		byName[s.Name] = s
		names = append(names, s.Name)
	}
	for name := range others {
		names = append(names, name)
	}
	f.each(path, node, func(name string, key, value ast.Node) {
		if read, ok := others[name]; ok {
			read(value)
		} else if s, ok := byName[name]; ok {
			f.value(join(path, name), value, s)
		} else {
			f.failf(key, "unknown key %q%s, the nearest known is %q", name, within(path), nearest(name, names))
		}
	})
}

// each calls do for each key of a mapping; a null in its place has none.
func (f *file) each(path string, node ast.Node, do func(name string, key, value ast.Node)) {
	if _, null := node.(*ast.NullNode); null {
		return
	}
	entries, ok := node.(ast.MapNode)
	if !ok {
		f.failf(node, "%smust be a mapping of keys to values", label(path))
		return
	}
	for entry := entries.MapRange(); entry.Next(); {
		key, value := entry.Key(), entry.Value()
		name, ok := scalar(key)
		if !ok {
			name = key.GetToken().Value // a merge or a complex key, which no setting has
		}
		do(name, key, value)
	}
}

// value reads one setting. A value that something stronger overrides is
// checked all the same.
func (f *file) value(path string, node ast.Node, s *kong.Flag) {
	text, err := plain(node, s.IsSlice())
	stronger := f.sources[path] != "" && f.sources[path] != sourceDefault
	before := reflect.New(s.Target.Type()).Elem()
	before.Set(s.Target)
	if err == nil {
		s.Target.SetZero() // a list would be appended to
		err = decode(s, text)
	}
	if err != nil {
		f.failf(node, "%s: %v", path, err)
	}
	if err != nil || stronger {
		s.Target.Set(before)
		return
	}
	f.sources[path] = f.at(node)
}

// plain returns the text of a node, or the []any of texts of a list.
func plain(node ast.Node, list bool) (any, error) {
	switch node := node.(type) {
	case *ast.SequenceNode:
		if !list {
			return nil, errors.New("must be one value and no list")
		}
		texts := []any{}
		for _, element := range node.Values {
			text, ok := scalar(element)
			if !ok {
				return nil, errors.New("must be a list of plain values")
			}
			texts = append(texts, text)
		}
		return texts, nil
	case *ast.NullNode:
		return nil, errors.New("has no value: give one, or remove the line")
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return nil, errors.New("anchors, aliases and tags are not understood here: write the value out")
	}
	text, ok := scalar(node)
	if !ok {
		return nil, errors.New("must be a plain value and no mapping")
	}
	return text, nil
}

// scalar returns the text of a scalar as it is written, without its quotes.
// What it means is for the setting to say.
func scalar(node ast.Node) (text string, ok bool) {
	switch node := node.(type) {
	case *ast.LiteralNode:
		return node.Value.Value, true
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return node.GetToken().Value, true
	}
	return "", false
}

func (f *file) failf(node ast.Node, format string, args ...any) {
	f.errs = append(f.errs, f.errorf(start(node), format, args...))
}

func (f *file) errorf(at *token.Token, format string, args ...any) error {
	return fmt.Errorf("%s: %s", f.position(at), fmt.Sprintf(format, args...))
}

func (f *file) at(node ast.Node) string { return f.position(start(node)) }

func (f *file) position(at *token.Token) string {
	return fmt.Sprintf("%s:%d:%d", f.path, at.Position.Line, at.Position.Column)
}

// start returns the first token of a node. That of a mapping in block style is
// its first colon, which is not where one would look.
func start(node ast.Node) *token.Token {
	if entries, ok := node.(ast.MapNode); ok && node.GetToken().Type != token.MappingStartType {
		if entry := entries.MapRange(); entry.Next() {
			return start(entry.Key())
		}
	}
	return node.GetToken()
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func label(path string) string {
	if path == "" {
		return ""
	}
	return path + ": "
}

func within(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}
