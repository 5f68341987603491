package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/pushd/pushd/topics"
)

func TestTemplate(t *testing.T) {
	fields := map[string]string{"symbol": "AAPL", "n": "7", "dotted": "BRK.B", "spaced": "a b", "empty": "", "odd name": "x", "long": strings.Repeat("x", 250)}
	for _, test := range []struct{ template, want, wantErr string }{
		{"stocks.all", "stocks.all", ""},
		{"stocks.{symbol}", "stocks.AAPL", ""},
		{"{symbol}", "AAPL", ""},
		{"a.{symbol}-{n}.{symbol}", "a.AAPL-7.AAPL", ""},
		{"a.{odd name}", "a.x", ""},

		{"a.{nothing}", "", `it has no field "nothing"`},
		{"a.{dotted}", "", `its field "dotted" is "BRK.B", which cannot be a token of a topic: only A-Z a-z 0-9 _ - can`},
		{"a.{spaced}", "", `its field "spaced" is "a b", which cannot be a token of a topic: only A-Z a-z 0-9 _ - can`},
		{"a.{empty}", "", `its field "empty" is "", which cannot be a token of a topic: only A-Z a-z 0-9 _ - can`},
		{"a.{long}.{long}", "", `topic "a.` + strings.Repeat("x", 62) + `"... has 503 bytes, of at most 255`},

		{"", "", `--topic is "", but makes no topic: topic "" is empty`},
		{"a.{b", "", `--topic is "a.{b", but has a "{" with no "}" behind it`},
		{"a.b}", "", `--topic is "a.b}", but has a "}" with no "{" before it`},
		{"a.{}", "", `--topic is "a.{}", but names no field in {}`},
		{"a.{{b}}", "", `--topic is "a.{{b}}", but has a "{" between braces`},
		{"a.*", "", `--topic is "a.*", but makes no topic: topic "a.*": token 2 (byte 2) is the wildcard "*", and a message goes to one topic`},
		{"a..{n}", "", `--topic is "a..{n}", but makes no topic: topic "a..x": token 2 (byte 2) is empty`},
	} {
		template, err := parseTemplate(test.template)
		got := ""
		if err == nil {
			got, err = template.expand(lookup(fields))
		}
		gotErr := ""
		if err != nil {
			gotErr = err.Error()
		}
		if got != test.want || gotErr != test.wantErr {
			t.Errorf("%q\ngot  %q, %s\nwant %q, %s", test.template, got, gotErr, test.want, test.wantErr)
		}
	}
}

func lookup(fields map[string]string) func(string) (string, error) {
	return func(field string) (string, error) {
		if value, ok := fields[field]; ok {
			return value, nil
		}
		return "", noField(field, nil)
	}
}

// The template is compared with a regular expression: braces around a name
// without braces are a field, and all other braces are a mistake.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"stocks.{symbol}", "{a}{b}.{a}", "a.{", "}{", "{}", "{{a}}", "a.{a}.b", "plain", "a.{b.c}", ""} {
		f.Add(seed, "x", "Y-1")
		f.Add(seed, "x.y", "")
	}
	group := regexp.MustCompile(`\{([^{}]+)\}`)
	f.Fuzz(func(t *testing.T, text, a, b string) {
		fields := map[string]string{"a": a, "b": b}
		valid := !strings.ContainsAny(group.ReplaceAllString(text, ""), "{}") && topics.CheckTopic(group.ReplaceAllString(text, "x")) == nil
		want := group.ReplaceAllStringFunc(text, func(braced string) string {
			value, ok := fields[braced[1:len(braced)-1]]
			if !ok || topics.CheckTopic(value) != nil || strings.Contains(value, ".") {
				valid = false
			}
			return value
		})
		valid = valid && topics.CheckTopic(want) == nil

		template, err := parseTemplate(text)
		got := ""
		if err == nil {
			got, err = template.expand(lookup(fields))
		}
		if valid != (err == nil) || valid && got != want {
			t.Errorf("%q with %s: %q, %v; want %q, valid %v", text, fmt.Sprint(fields), got, err, want, valid)
		}
	})
}
