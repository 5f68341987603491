package topics

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestMatcher(t *testing.T) {
	var m matcher[string]
	match := func(topic string, want ...string) {
		t.Helper()
		got := m.match(topic, nil)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("match(%q) = %q, want %q", topic, got, want)
		}
	}
	length := func(want int) {
		t.Helper()
		if got := m.len(); got != want {
			t.Errorf("len() = %d, want %d", got, want)
		}
	}

	match("a.b")
	length(0)
	for _, pattern := range []string{"a", "a.b", "a.*", "a.>", "a.*.c", "a.b.>", "a.*.*", "a.*.>"} {
		m.insert(pattern, pattern)
	}
	length(8)
	match("a", "a")
	match("a.b", "a.b", "a.*", "a.>")
	match("a.x", "a.*", "a.>")
	match("a.b.c", "a.>", "a.*.c", "a.b.>", "a.*.*", "a.*.>")
	match("a.x.y.z", "a.>", "a.*.>")
	match("b")

	m.insert("a.*", "replaced")
	m.insert("a.b", "replaced too")
	m.insert("a.>", "and this")
	length(8)
	match("a.b", "replaced too", "replaced", "and this")

	m.remove("a.*.c")
	m.remove("a.*.c")      // a second time
	m.remove("a.*.c.d.>")  // never there
	m.remove("a.nobody.*") // never there
	m.remove("a.nobody")   // never there
	length(7)
	match("a.b.c", "and this", "a.b.>", "a.*.*", "a.*.>")

	if _, ok := m.get("a.*.c"); ok {
		t.Error(`get("a.*.c") found a pattern that was removed`)
	}
	if v, ok := m.get("a.*"); !ok || v != "replaced" {
		t.Errorf(`get("a.*") = %q, %v`, v, ok)
	}
	if _, ok := m.get("a.b.*"); ok {
		t.Error(`get("a.b.*") found a node that only leads to others`)
	}
}

func TestMatcherAppends(t *testing.T) {
	var m matcher[int]
	m.insert("a.*", 2)
	if got := m.match("a.b", []int{1}); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("match appended to [1] = %v, want [1 2]", got)
	}
}

// TestMatcherGivesMemoryBack wants nothing left of patterns that went, and of
// a burst of them no more than what the survivors need.
func TestMatcherGivesMemoryBack(t *testing.T) {
	var m matcher[int]
	const burst = 10_000
	pattern := func(i int) string { return [...]string{"a.%d", "a.%d.*", "a.*.%d.>", "a.%d.b.c.>"}[i%4] }
	for i := range burst {
		m.insert(fmt.Sprintf(pattern(i), i), i)
	}
	for i := 4; i < burst; i++ {
		m.remove(fmt.Sprintf(pattern(i), i))
	}
	if m.len() != 4 || m.exact.peak > roomKept || m.wild.literal.entries["a"].literal.peak > roomKept {
		t.Errorf("%d patterns are left, in tables with room for %d and %d; want 4, and room for %d at most",
			m.len(), m.exact.peak, m.wild.literal.entries["a"].literal.peak, roomKept)
	}
	for i := range 4 {
		m.remove(fmt.Sprintf(pattern(i), i))
	}
	if m.len() != 0 || m.exact.entries != nil || !m.wild.empty() || m.wild.literal.entries != nil {
		t.Errorf("an emptied matcher still holds %+v", m)
	}
}

// hostile returns a matcher with every pattern of depth tokens, each token but
// the first "a" or "*", and the last one "b": no topic of only "a" matches.
func hostile(depth int) *matcher[int] {
	m := new(matcher[int])
	for bits := range 1 << (depth - 2) {
		var pattern strings.Builder
		pattern.WriteString("a")
		for d := range depth - 2 {
			pattern.WriteString([...]string{".a", ".*"}[bits>>d&1])
		}
		pattern.WriteString(".b")
		m.insert(pattern.String(), bits)
	}
	return m
}

func TestMatcherWorstCase(t *testing.T) {
	m := hostile(12)
	topic := strings.Repeat("a.", 11)
	if got := m.match(topic+"a", nil); len(got) != 0 {
		t.Errorf("match of a topic that no pattern means = %d values", len(got))
	}
	if got := m.match(topic+"b", nil); len(got) != m.len() {
		t.Errorf("match of a topic that every pattern means = %d values, want %d", len(got), m.len())
	}
	// A single pattern with "*" at each level is a single path.
	single := new(matcher[int])
	single.insert("a"+strings.Repeat(".*", MaxTokens-1), 1)
	if got := single.match(strings.Repeat("a.", MaxTokens-1)+"a", nil); len(got) != 1 {
		t.Errorf("match of one pattern of %d tokens = %d values, want 1", MaxTokens, len(got))
	}
}

func TestMatcherMatchDoesNotAllocate(t *testing.T) {
	var m matcher[int]
	for i, pattern := range []string{"a.b.c", "a.*.c", "a.>", "a.b.*", "a.*.*"} {
		m.insert(pattern, i)
	}
	dst := make([]int, 0, 8)
	allocs := testing.AllocsPerRun(100, func() {
		if got := m.match("a.b.c", dst[:0]); len(got) != 5 {
			t.Errorf("match = %v, want 5 values", got)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

// FuzzMatch reads bytes as operations on a matcher, and compares it with a map
// whose every pattern is asked. Match itself is compared with a regexp.
//
// An operation is a byte (insert, remove or match) and a name: each following
// byte is a token out of a small alphabet, so that names meet, up to a 0xff.
func FuzzMatch(f *testing.F) {
	const (
		insert = iota
		remove
		match
		operations
		end = 0xff
	)
	f.Add([]byte{insert, 0, 1, end, match, 0, 1, end, remove, 0, 1, end, match, 0, 1})
	f.Add([]byte{insert, 0, 3, end, insert, 0, 4, end, insert, 0, 3, 3, end, match, 0, 1, end, match, 0, 1, 2})
	f.Add([]byte{insert, 0, 3, 1, 4, end, insert, 0, 3, 1, end, remove, 0, 3, 1, 4, end, match, 0, 2, 1, end, remove, 0, 3, 1})
	f.Add([]byte{insert, 0, 1, 3, end, insert, 0, 3, 1, end, insert, 0, 1, 1, end, match, 0, 1, 1, end, insert, 0, 1, 3, end, match, 0, 1, 1})
	f.Add([]byte{remove, 0, 4, end, insert, 0, 4, end, insert, 0, 4, end, match, 0, end, match, 0, 0, 0, 0})

	f.Fuzz(func(t *testing.T, program []byte) {
		alphabet := []string{"a", "b", "cc", "*", ">"}
		name := func(bytes []byte) string {
			tokens := make([]string, len(bytes))
			for i, b := range bytes {
				tokens[i] = alphabet[int(b)%len(alphabet)]
			}
			return strings.Join(tokens, ".")
		}
		var m matcher[int]
		model := map[string]int{}
		for step := 0; len(program) > 0; step++ {
			op := int(program[0]) % operations
			length := slices.Index(program[1:], end)
			if length < 0 {
				length = len(program) - 1
			}
			s := name(program[1 : 1+length])
			program = program[min(len(program), length+2):]

			if op == match && CheckTopic(s) != nil || CheckPattern(s) != nil {
				continue
			}
			switch op {
			case insert:
				m.insert(s, step)
				model[s] = step
			case remove:
				m.remove(s)
				delete(model, s)
			case match:
				var want []int
				for pattern, v := range model {
					matches := Match(pattern, s)
					if byModel := matchModel(pattern, s); matches != byModel {
						t.Errorf("step %d: Match(%q, %q) = %v, the model says %v", step, pattern, s, matches, byModel)
					}
					if matches {
						want = append(want, v)
					}
				}
				got := m.match(s, nil)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("step %d: match(%q) = %v, want %v, of %v", step, s, got, want, model)
				}
			}
			if m.len() != len(model) {
				t.Fatalf("step %d: %d patterns, want %d", step, m.len(), len(model))
			}
		}
		var got []int
		m.each(func(v int) { got = append(got, v) })
		slices.Sort(got)
		if want := slices.Sorted(maps.Values(model)); !slices.Equal(got, want) {
			t.Errorf("each gave %v, want %v", got, want)
		}
		for _, pattern := range slices.Collect(maps.Keys(model)) {
			if v, ok := m.get(pattern); !ok || v != model[pattern] {
				t.Errorf("get(%q) = %d, %v, want %d", pattern, v, ok, model[pattern])
			}
			m.remove(pattern)
		}
		if m.len() != 0 || !m.wild.empty() {
			t.Errorf("an emptied matcher still holds %+v", m)
		}
	})
}

func BenchmarkMatcher(b *testing.B) {
	run := func(name string, m *matcher[int], topic string, want int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]int, 0, 1024)
			for b.Loop() {
				dst = m.match(topic, dst[:0])
			}
			if len(dst) != want {
				b.Fatalf("match(%q) = %d values, want %d", topic, len(dst), want)
			}
		})
	}
	exact := new(matcher[int])
	for i := range 10_000 {
		exact.insert(fmt.Sprintf("stocks.SYM%d", i), i)
	}
	run("exact of 10k", exact, "stocks.SYM4711", 1)
	run("miss of 10k", exact, "stocks.NONE", 0)

	exact.insert("stocks.>", -1)
	run("exact of 10k and rest", exact, "stocks.SYM4711", 2)

	wild := new(matcher[int])
	for i := range 1_000 {
		wild.insert(fmt.Sprintf("iot.site%d.*.temperature", i), i)
	}
	wild.insert("iot.*.*.temperature", -1)
	wild.insert("iot.>", -2)
	run("wildcards of 1k", wild, "iot.site500.hall7.temperature", 3)

	run("worst case of 1k", hostile(12), strings.Repeat("a.", 11)+"a", 0)
}
