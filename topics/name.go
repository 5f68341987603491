package topics

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a topic or pattern. They keep a subject, prefix included, well
// inside what NATS and JetStream take, and bound the work of matching.
const (
	MaxTokens = 16
	MaxLength = 255 // bytes
)

// The two wildcards of a pattern, as NATS has them.
const (
	wildcardOne  = "*" // exactly one token
	wildcardRest = ">" // one or more tokens; only as the last
)

// NameError says why a string is no topic or no pattern, and where.
type NameError struct {
	Kind    string // "topic" or "pattern": what it was to be
	Name    string // as it was given
	Token   int    // number of the token at fault, from 1; 0 where it is the whole
	Offset  int    // of the first byte at fault
	Problem string // what is wrong, to be read behind the name or token
}

func (e *NameError) Error() string {
	// Names come from clients: one that is far too long is not repeated whole.
	const shown = 64
	name, cut := e.Name, ""
	if len(name) > shown {
		name, cut = name[:shown], "..."
	}
	if e.Token == 0 {
		return fmt.Sprintf("%s %q%s %s", e.Kind, name, cut, e.Problem)
	}
	return fmt.Sprintf("%s %q%s: token %d (byte %d) %s", e.Kind, name, cut, e.Token, e.Offset, e.Problem)
}

// CheckTopic reports whether s may be published to: 1 to [MaxTokens] tokens of
// A-Z a-z 0-9 _ -, joined by dots, at most [MaxLength] bytes. The error is a
// *[NameError].
func CheckTopic(s string) error { return check("topic", s, false) }

// CheckPattern reports whether s may be subscribed to: a topic, in which any
// token but the first may be "*" and the last may be ">". The first is the
// namespace, which has settings of its own and so is always literal. The
// error is a *[NameError].
func CheckPattern(s string) error { return check("pattern", s, true) }

func check(kind, name string, wildcards bool) error {
	if name == "" {
		return &NameError{Kind: kind, Problem: "is empty"}
	}
	if len(name) > MaxLength {
		return &NameError{Kind: kind, Name: name, Offset: MaxLength,
			Problem: fmt.Sprintf("has %d bytes, of at most %d", len(name), MaxLength)}
	}
	for n, start := 1, 0; ; n++ {
		token, _, more := strings.Cut(name[start:], ".")
		if n > MaxTokens {
			return &NameError{Kind: kind, Name: name, Offset: start,
				Problem: fmt.Sprintf("has more than %d tokens", MaxTokens)}
		}
		at, problem := 0, ""
		if token == wildcardOne || token == wildcardRest {
			problem = checkWildcard(token, wildcards, n == 1, !more)
		} else {
			at, problem = checkLiteral(token)
		}
		if problem != "" {
			return &NameError{Kind: kind, Name: name, Token: n, Offset: start + at, Problem: problem}
		}
		if !more {
			return nil
		}
		start += len(token) + len(".")
	}
}

// checkWildcard returns what is wrong with a wildcard at its place, or "".
func checkWildcard(token string, allowed, first, last bool) string {
	switch {
	case !allowed:
		return fmt.Sprintf("is the wildcard %q, and a message goes to one topic", token)
	case first:
		return fmt.Sprintf("is the wildcard %q, but the first token is the namespace and must be literal", token)
	case token == wildcardRest && !last:
		return `is ">", which can only be the last token`
	}
	return ""
}

// checkLiteral returns where in the token and what is wrong, or "".
func checkLiteral(token string) (at int, problem string) {
	if token == "" {
		return 0, "is empty"
	}
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		case c == '*' || c == '>':
			return i, fmt.Sprintf("has %q beside other characters, but a wildcard is a whole token", token[i:i+1])
		default:
			_, size := utf8.DecodeRuneInString(token[i:])
			return i, fmt.Sprintf("has %q, which is none of A-Z a-z 0-9 _ -", token[i:i+size])
		}
	}
	return 0, ""
}

// Namespace returns the first token of a topic or pattern.
func Namespace(s string) string {
	first, _, _ := strings.Cut(s, ".")
	return first
}

// HasWildcard reports whether a valid pattern can match more than one topic.
func HasWildcard(s string) bool { return strings.ContainsAny(s, wildcardOne+wildcardRest) }

// Match reports whether a message published to topic is one for pattern. Both
// must be valid ([CheckPattern], [CheckTopic]). It does not allocate, and
// looks at each byte at most twice.
func Match(pattern, topic string) bool {
	for {
		want, wantTail, wantMore := strings.Cut(pattern, ".")
		if want == wildcardRest {
			return true // what is left of topic is at least one token
		}
		got, gotTail, gotMore := strings.Cut(topic, ".")
		if want != got && want != wildcardOne || wantMore != gotMore {
			return false
		}
		if !wantMore {
			return true
		}
		pattern, topic = wantTail, gotTail
	}
}
