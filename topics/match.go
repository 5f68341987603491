package topics

import (
	"maps"
	"strings"
)

// matcher is a set of patterns with a value for each, and finds those that
// match a topic. The zero value is an empty set. Not safe for concurrent use.
//
// Patterns without wildcards, nearly all of them, are one lookup away. The
// others stand in a trie of their tokens.
//
// Bound: match visits a trie node at most once, and only where the tokens that
// lead to it match the topic. At depth d that are at most 2^d nodes (each token
// literal or "*") and never more than there are patterns, so the work is at
// most MaxTokens lookups for each wildcard pattern: the worst case, which needs
// that many hostile patterns, is that of asking each one. Patterns that part
// from the topic early cost nothing.
type matcher[V any] struct {
	exact     table[string, V]
	wild      node[V] // root of the trie; stands for no token
	wildcards int     // patterns in the trie
}

// node stands for the tokens that lead to it from the root.
type node[V any] struct {
	literal table[string, *node[V]] // by next token
	one     *node[V]                // next token is "*"
	rest    *V                      // value of the pattern that ends here with ">"
	end     *V                      // value of the pattern that ends here without
}

// insert adds a pattern, or replaces its value. The pattern must be valid, and
// its bytes must not change: it is kept.
func (m *matcher[V]) insert(pattern string, v V) {
	if !HasWildcard(pattern) {
		m.exact.put(pattern, v)
		return
	}
	if m.wild.insert(pattern, &v) {
		m.wildcards++
	}
}

// remove takes a pattern out, and gives back the memory that it held.
func (m *matcher[V]) remove(pattern string) {
	if !HasWildcard(pattern) {
		m.exact.remove(pattern)
		return
	}
	if m.wild.remove(pattern) {
		m.wildcards--
	}
}

// get returns the value of exactly this pattern.
func (m *matcher[V]) get(pattern string) (v V, ok bool) {
	if !HasWildcard(pattern) {
		return m.exact.get(pattern)
	}
	if p := m.wild.get(pattern); p != nil {
		return *p, true
	}
	return v, false
}

// len returns the number of patterns.
func (m *matcher[V]) len() int { return m.exact.len() + m.wildcards }

// each calls f with the value of each pattern, in no particular order. f must
// not change the set.
func (m *matcher[V]) each(f func(V)) {
	for _, v := range m.exact.entries {
		f(v)
	}
	m.wild.each(f)
}

// match appends to dst the value of each pattern that matches topic, each
// once, in no particular order. It allocates only where dst must grow.
func (m *matcher[V]) match(topic string, dst []V) []V {
	if v, ok := m.exact.get(topic); ok {
		dst = append(dst, v)
	}
	if m.wildcards == 0 {
		return dst
	}
	return m.wild.match(topic, dst)
}

// match walks the nodes below n that agree with topic, which is not empty.
// It calls itself at most MaxTokens deep.
func (n *node[V]) match(topic string, dst []V) []V {
	if n.rest != nil {
		dst = append(dst, *n.rest)
	}
	token, tail, more := strings.Cut(topic, ".")
	literal, _ := n.literal.get(token)
	for _, child := range [...]*node[V]{literal, n.one} {
		switch {
		case child == nil:
		case more:
			dst = child.match(tail, dst)
		case child.end != nil:
			dst = append(dst, *child.end)
		}
	}
	return dst
}

// insert reports whether the pattern is new.
func (n *node[V]) insert(pattern string, v *V) bool {
	for more := true; more; {
		var token string
		token, pattern, more = strings.Cut(pattern, ".")
		if token == wildcardRest {
			isNew := n.rest == nil
			n.rest = v
			return isNew
		}
		child := n.child(token)
		if child == nil {
			child = new(node[V])
			if token == wildcardOne {
				n.one = child
			} else {
				// A copy: the node may outlive the pattern that it came with.
				n.literal.put(strings.Clone(token), child)
			}
		}
		n = child
	}
	isNew := n.end == nil
	n.end = v
	return isNew
}

// remove reports whether the pattern was there. On the way back it takes out
// each child that leads nowhere any more.
func (n *node[V]) remove(pattern string) bool {
	token, tail, more := strings.Cut(pattern, ".")
	if token == wildcardRest {
		was := n.rest != nil
		n.rest = nil
		return was
	}
	child := n.child(token)
	if child == nil {
		return false
	}
	var was bool
	if more {
		was = child.remove(tail)
	} else {
		was = child.end != nil
		child.end = nil
	}
	if child.empty() {
		if token == wildcardOne {
			n.one = nil
		} else {
			n.literal.remove(token)
		}
	}
	return was
}

func (n *node[V]) get(pattern string) *V {
	for more := true; more; {
		var token string
		token, pattern, more = strings.Cut(pattern, ".")
		if token == wildcardRest {
			return n.rest
		}
		if n = n.child(token); n == nil {
			return nil
		}
	}
	return n.end
}

func (n *node[V]) each(f func(V)) {
	if n == nil {
		return
	}
	for _, v := range [...]*V{n.rest, n.end} {
		if v != nil {
			f(*v)
		}
	}
	n.one.each(f)
	for _, child := range n.literal.entries {
		child.each(f)
	}
}

// child returns the node of the next token of a pattern, or nil.
func (n *node[V]) child(token string) *node[V] {
	if token == wildcardOne {
		return n.one
	}
	child, _ := n.literal.get(token)
	return child
}

func (n *node[V]) empty() bool {
	return n.literal.len() == 0 && n.one == nil && n.rest == nil && n.end == nil
}

// table is a map that gives memory back: Go's own keeps the room of its
// largest size for ever, and subscriptions come in bursts.
type table[K comparable, V any] struct {
	entries map[K]V
	peak    int // most entries since entries was made
}

// roomKept is a number of entries whose room is not worth a new map.
const roomKept = 64

func (t *table[K, V]) len() int { return len(t.entries) }

func (t *table[K, V]) get(key K) (V, bool) {
	v, ok := t.entries[key]
	return v, ok
}

func (t *table[K, V]) put(key K, v V) {
	if t.entries == nil {
		t.entries = make(map[K]V)
	}
	t.entries[key] = v
	t.peak = max(t.peak, len(t.entries))
}

// remove moves what is left to a new map once three quarters are gone, so a
// removal costs O(1) when spread over those that led to it.
func (t *table[K, V]) remove(key K) {
	delete(t.entries, key)
	left := len(t.entries)
	switch {
	case left == 0:
		*t = table[K, V]{}
	case t.peak > roomKept && left < t.peak/4:
		smaller := make(map[K]V, left)
		maps.Copy(smaller, t.entries)
		*t = table[K, V]{entries: smaller, peak: left}
	}
}
