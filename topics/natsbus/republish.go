package natsbus

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// wildcardRest is the wildcard that ends a subject, for one or more tokens.
const wildcardRest = ">"

// republish is where a stream's messages go once they are stored: the subjects
// that match source, each token of which that was a wildcard goes where the
// destination names it.
type republish struct {
	source []string
	dest   []destToken
}

// destToken is a literal, or a reference to what a "*" of the source matched,
// or the ">" of both.
type destToken struct {
	literal  string
	wildcard int // number of the "*", from 1; 0: literal
}

// reference is how a destination names a wildcard: $1, or {{wildcard(1)}}.
var reference = regexp.MustCompile(`^(?:\$(\d+)|\{\{\s*[wW]ildcard\s*\(\s*(\d+)\s*\)\s*\}\})$`)

// newRepublish reads a stream's setting. An error says what cannot be followed:
// a destination where a topic has no subject known beforehand, or one that it
// shares with others.
func newRepublish(r jetstream.RePublish) (*republish, error) {
	if r.Source == "" {
		r.Source = wildcardRest
	}
	if r.Destination == "" {
		r.Destination = wildcardRest
	}
	source := strings.Split(r.Source, ".")
	stars := 0
	for _, token := range source {
		if token == "*" {
			stars++
		}
	}
	rp := &republish{source: source}
	kept := make(map[int]bool)
	for _, token := range strings.Split(r.Destination, ".") {
		found := reference.FindStringSubmatch(token)
		if found == nil {
			if strings.ContainsAny(token, "{}$*") {
				return nil, fmt.Errorf("%q in its destination is more than a wildcard's place", token)
			}
			rp.dest = append(rp.dest, destToken{literal: token})
			continue
		}
		n, err := strconv.Atoi(found[1] + found[2])
		if err != nil || n < 1 || n > stars {
			return nil, fmt.Errorf("%q in its destination names no wildcard of the source", token)
		}
		rp.dest = append(rp.dest, destToken{wildcard: n})
		kept[n] = true
	}
	if len(kept) < stars {
		return nil, errors.New("its destination leaves out a wildcard of the source, so that topics meet")
	}
	return rp, nil
}

// apply returns where a subject is republished to, or the pattern of where all
// subjects of a pattern are: false where not all of them are.
func (r *republish) apply(subject string) (string, bool) {
	tokens := strings.Split(subject, ".")
	var matched []string // by the source's "*"
	var rest []string    // by its ">"
	for i, token := range r.source {
		if token == wildcardRest {
			if i >= len(tokens) {
				return "", false
			}
			rest, tokens = tokens[i:], tokens[:i]
			break
		}
		if i >= len(tokens) || tokens[i] == wildcardRest || token != "*" && token != tokens[i] {
			return "", false
		}
		if token == "*" {
			matched = append(matched, tokens[i])
		}
	}
	if rest == nil && len(tokens) > len(r.source) {
		return "", false
	}
	var out []string
	for _, d := range r.dest {
		switch {
		case d.wildcard > 0:
			out = append(out, matched[d.wildcard-1])
		case d.literal == wildcardRest:
			out = append(out, rest...)
		default:
			out = append(out, d.literal)
		}
	}
	return strings.Join(out, "."), true
}

// everywhere is the pattern of all that a stream may republish to.
func (r *republish) everywhere() string {
	out := make([]string, len(r.dest))
	for i, d := range r.dest {
		out[i] = d.literal
		if d.wildcard > 0 {
			out[i] = "*"
		}
	}
	return strings.Join(out, ".")
}

// ownRepublish is what pushd gives to a stream of its own. Messages of
// namespace "scores", below PREFIX.scores, go to PREFIX-live.scores and below.
// Those of another subject keep all of it, below the namespace's name, so that
// no two namespaces meet there.
func ownRepublish(prefix, namespace, subject string) jetstream.RePublish {
	parent, isDefault := strings.CutSuffix(subject, "."+namespace)
	if isDefault && parent == prefix {
		return jetstream.RePublish{Source: prefix + ".>", Destination: livePrefix(prefix) + ".>"}
	}
	return jetstream.RePublish{Source: wildcardRest, Destination: livePrefix(prefix) + "." + namespace + ".>"}
}

// livePrefix is where pushd's own streams republish to. Its last token differs
// from the prefix's, so that no subject below the one is below the other.
func livePrefix(prefix string) string { return prefix + "-live" }
