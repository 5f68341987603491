package topics

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	// Each name as a topic and as a pattern: "" is valid, else a piece of the error.
	tokens := func(n int) string { return strings.Repeat("a.", n-1) + "a" }
	for _, tt := range []struct{ name, topic, pattern string }{
		{"stocks", "", ""},
		{"stocks.AAPL", "", ""},
		{"Az09_-.-_90zA", "", ""},
		{tokens(MaxTokens), "", ""},
		{tokens(MaxTokens + 1), "has more than 16 tokens", "has more than 16 tokens"},
		{strings.Repeat("a", MaxLength), "", ""},
		{strings.Repeat("a", MaxLength+1), "has 256 bytes, of at most 255", "has 256 bytes, of at most 255"},

		{"stocks.*", `token 2 (byte 7) is the wildcard "*"`, ""},
		{"iot.berlin.>", `token 3 (byte 11) is the wildcard ">"`, ""},
		{"a.*.*.b.>", `token 2 (byte 2) is the wildcard "*"`, ""},
		{"*.AAPL", `token 1 (byte 0) is the wildcard "*"`, `token 1 (byte 0) is the wildcard "*", but the first token is the namespace`},
		{">", `token 1 (byte 0) is the wildcard ">"`, `token 1 (byte 0) is the wildcard ">", but the first token is the namespace`},
		{"*", `token 1 (byte 0) is the wildcard "*"`, `token 1 (byte 0) is the wildcard "*", but`},
		{"a.>.b", `token 2 (byte 2) is the wildcard ">"`, `token 2 (byte 2) is ">", which can only be the last token`},
		{"a.b*", `token 2 (byte 3) has "*" beside other characters`, `token 2 (byte 3) has "*" beside other characters`},
		{"a.>>", `token 2 (byte 2) has ">" beside other characters`, `token 2 (byte 2) has ">" beside other characters`},

		{"", "topic \"\" is empty", "pattern \"\" is empty"},
		{".", "token 1 (byte 0) is empty", "token 1 (byte 0) is empty"},
		{".a", "token 1 (byte 0) is empty", "token 1 (byte 0) is empty"},
		{"a..b", "token 2 (byte 2) is empty", "token 2 (byte 2) is empty"},
		{"a.b.", "token 3 (byte 4) is empty", "token 3 (byte 4) is empty"},
		{"a b", `token 1 (byte 1) has " "`, `token 1 (byte 1) has " "`},
		{"a.b\r\n", `token 2 (byte 3) has "\r"`, `token 2 (byte 3) has "\r"`},
		{"a.$SYS", `token 2 (byte 2) has "$"`, `token 2 (byte 2) has "$"`},
		{"a.bé", `token 2 (byte 3) has "é"`, `token 2 (byte 3) has "é"`},
		{"a.\xff", `token 2 (byte 2) has "\xff"`, `token 2 (byte 2) has "\xff"`},
		{"a.\x00", `token 2 (byte 2) has "\x00"`, `token 2 (byte 2) has "\x00"`},
	} {
		wantError(t, "CheckTopic", tt.name, CheckTopic(tt.name), tt.topic)
		wantError(t, "CheckPattern", tt.name, CheckPattern(tt.name), tt.pattern)
	}
}

// wantError wants no error where piece is "", else a *NameError that holds piece.
func wantError(t *testing.T, check, name string, err error, piece string) {
	t.Helper()
	if piece == "" {
		if err != nil {
			t.Errorf("%s(%q) = %v, want it to be valid", check, name, err)
		}
		return
	}
	var nameErr *NameError
	if !errors.As(err, &nameErr) || !strings.Contains(err.Error(), piece) {
		t.Errorf("%s(%q) = %v (%T), want a *NameError with %q", check, name, err, err, piece)
	}
}

func TestNameErrorIsBounded(t *testing.T) {
	if n := len(CheckTopic(strings.Repeat("\x00", 1<<20)).Error()); n > 512 {
		t.Errorf("the error on a hostile name of 1 MiB has %d bytes", n)
	}
}

func TestNamespace(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got := Namespace(s); got != want {
			t.Errorf("Namespace(%q) = %q, want %q", s, got, want)
		}
	}
	f("stocks", "stocks")
	f("stocks.AAPL", "stocks")
	f("iot.berlin.>", "iot")
}

func TestHasWildcard(t *testing.T) {
	f := func(s string, want bool) {
		t.Helper()
		if got := HasWildcard(s); got != want {
			t.Errorf("HasWildcard(%q) = %v, want %v", s, got, want)
		}
	}
	f("stocks", false)
	f("stocks.AAPL", false)
	f("stocks.*", true)
	f("stocks.*.price", true)
	f("stocks.>", true)
}

func TestMatch(t *testing.T) {
	f := func(pattern, topic string, want bool) {
		t.Helper()
		if got := Match(pattern, topic); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", pattern, topic, got, want)
		}
	}
	f("a", "a", true)
	f("a", "b", false)
	f("a", "a.b", false)
	f("a.b", "a", false)
	f("a.b", "a.b", true)
	f("a.b", "a.bc", false)
	f("a.bc", "a.b", false)
	f("a.*", "a", false)
	f("a.*", "a.b", true)
	f("a.*", "a.b.c", false)
	f("a.*.c", "a.b.c", true)
	f("a.*.c", "a.b.d", false)
	f("a.>", "a", false)
	f("a.>", "a.b", true)
	f("a.>", "a.b.c.d", true)
	f("a.>", "b.c", false)
	f("a.*.>", "a.b", false)
	f("a.*.>", "a.b.c", true)
	f("a.*.*.d", "a.b.c.d", true)
}

func TestCheckAndMatchDoNotAllocate(t *testing.T) {
	const topic, pattern = "iot.berlin.hall-3.line_7.temperature", "iot.*.hall-3.>"
	allocs := testing.AllocsPerRun(100, func() {
		if CheckTopic(topic) != nil || CheckPattern(pattern) != nil || !HasWildcard(pattern) || !Match(pattern, topic) {
			t.Error("a valid name was refused or did not match")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

// The rules of names written down a second time, as plainly as can be.
var (
	literalForm = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	matchForms  = strings.NewReplacer(".", `\.`, "*", `[^.]+`, ">", `.+`)
)

func validTopicModel(s string) bool {
	tokens := strings.Split(s, ".")
	return len(s) <= MaxLength && len(tokens) <= MaxTokens &&
		!slices.ContainsFunc(tokens, func(token string) bool { return !literalForm.MatchString(token) })
}

// A pattern is valid where it is a topic once its wildcards are literals.
func validPatternModel(s string) bool {
	tokens := strings.Split(s, ".")
	for i := 1; i < len(tokens); i++ {
		if tokens[i] == "*" || tokens[i] == ">" && i == len(tokens)-1 {
			tokens[i] = "x"
		}
	}
	return validTopicModel(strings.Join(tokens, "."))
}

func matchModel(pattern, topic string) bool {
	return regexp.MustCompile(`^` + matchForms.Replace(pattern) + `$`).MatchString(topic)
}

func FuzzName(f *testing.F) {
	for _, s := range []string{
		"", ".", "a", "a.b", "a..b", "a.", "*", ">", "a.*", "a.>", "a.>.b", "a.b*", "*.a", "a.é", "a.\xff", "a b", "a.b\n",
		strings.Repeat("a.", 15) + "a", strings.Repeat("a.", 16) + "a", strings.Repeat("x", 255), strings.Repeat("x", 256),
		"a." + strings.Repeat("*.", 14) + ">",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		topicErr, patternErr := CheckTopic(s), CheckPattern(s)
		if got, want := topicErr == nil, validTopicModel(s); got != want {
			t.Errorf("CheckTopic(%q) = %v, the model says valid: %v", s, topicErr, want)
		}
		if got, want := patternErr == nil, validPatternModel(s); got != want {
			t.Errorf("CheckPattern(%q) = %v, the model says valid: %v", s, patternErr, want)
		}
		for _, err := range []error{topicErr, patternErr} {
			var nameErr *NameError
			if errors.As(err, &nameErr) && (nameErr.Name != s || nameErr.Offset < 0 || nameErr.Offset > len(s)) {
				t.Errorf("%+v does not point into %q", nameErr, s)
			}
		}
		if patternErr != nil {
			return
		}
		if got, want := Namespace(s), strings.Split(s, ".")[0]; got != want {
			t.Errorf("Namespace(%q) = %q, want %q", s, got, want)
		}
		// A valid pattern without wildcards is a topic, and the other way round.
		if HasWildcard(s) != (topicErr != nil) {
			t.Errorf("HasWildcard(%q) = %v, CheckTopic = %v", s, HasWildcard(s), topicErr)
		}
	})
}

func BenchmarkCheckPattern(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if CheckPattern("iot.berlin.hall-3.line_7.*") != nil {
			b.Fatal("a valid pattern was refused")
		}
	}
}

func ExampleNameError() {
	fmt.Println(CheckPattern("stocks.AA*"))
	fmt.Println(CheckTopic("stocks..AAPL"))
	// Output:
	// pattern "stocks.AA*": token 2 (byte 9) has "*" beside other characters, but a wildcard is a whole token
	// topic "stocks..AAPL": token 2 (byte 7) is empty
}
