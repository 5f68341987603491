package auth

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/topics"
)

func TestNewRights(t *testing.T) {
	for pattern, want := range map[string]string{
		">": "", "*": "", "*.>": "", "*.*": "", "*.a.*.>": "", "a": "", "a.>": "", "a.*.b": "",
		"":     `subscribe: pattern "" is empty`,
		">.a":  `subscribe: pattern ">.a": token 1 (byte 0) is the wildcard ">", but the first token is the namespace and must be literal`,
		"**":   `subscribe: pattern "**": token 1 (byte 0) has "*" beside other characters, but a wildcard is a whole token`,
		"*.":   `subscribe: pattern "n.": token 2 (byte 2) is empty`,
		"a.>.": `subscribe: pattern "a.>.": token 2 (byte 2) is ">", which can only be the last token`,
		"a,b":  `subscribe: pattern "a,b": token 1 (byte 1) has ",", which is none of A-Z a-z 0-9 _ -`,
	} {
		got := ""
		if _, err := NewRights([]string{pattern}, nil); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", pattern, got, want)
		}
		if _, err := NewRights(nil, []string{pattern}); (err != nil) != (want != "") {
			t.Errorf("%q to publish: %v", pattern, err)
		}
	}
	if _, err := NewRights(nil, slices.Repeat([]string{"a"}, MaxPermissions+1)); err == nil || err.Error() != "publish has 257 patterns, of at most 256" {
		t.Error(err)
	}
}

// One permission has to cover all of a pattern.
func TestRights(t *testing.T) {
	r, err := NewRights([]string{"a.b", "a.*.c", "a.*", "d.>", "*.x"}, []string{"p.*"})
	if err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]bool{
		"a.b": true, "a.z": true, "a.*": true, "a.b.c": true, "a.*.c": true, "d.e": true, "d.>": true, "d.*.f": true, "q.x": true,
		"a": false, "a.>": false, "a.b.>": false, "a.*.*": false, "a.b.d": false, "d": false, "q.y": false, "x": false, "A.b": false, "p.a": false,
	} {
		if r.MaySubscribe(pattern) != want {
			t.Errorf("subscribe to %s: %v", pattern, !want)
		}
	}
	for topic, want := range map[string]bool{"p.a": true, "p": false, "p.a.b": false, "a.b": false} {
		if r.MayPublish(topic) != want {
			t.Errorf("publish to %s: %v", topic, !want)
		}
	}
	var none Rights
	if none.MaySubscribe("a") || none.MayPublish("a") {
		t.Error("no rights are some")
	}
}

// model is all topics of up to four tokens of three words, one of which no
// pattern has: what covers all of them covers any.
func model() []string {
	last, all := []string{""}, []string{}
	for range 4 {
		var longer []string
		for _, topic := range last {
			for _, word := range []string{"a", "b", "other"} {
				longer = append(longer, strings.TrimPrefix(topic+"."+word, "."))
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

// coversByModel asks each topic.
func coversByModel(all []string, permission, pattern string) bool {
	for _, topic := range all {
		if topics.Match(pattern, topic) && !topics.Match(permission, topic) {
			return false
		}
	}
	return true
}

// patterns are all of up to three tokens of two words and the wildcards.
func patterns() []string {
	last, all := []string{""}, []string{}
	for range 3 {
		var longer []string
		for _, pattern := range last {
			for _, token := range []string{"a", "b", "*"} {
				longer = append(longer, strings.TrimPrefix(pattern+"."+token, "."))
			}
			all = append(all, strings.TrimPrefix(pattern+".>", "."))
		}
		all, last = append(all, longer...), longer
	}
	return all
}

func TestCoversAll(t *testing.T) {
	all, some := model(), patterns()
	yes := 0
	for _, permission := range some {
		for _, pattern := range some {
			want := coversByModel(all, permission, pattern)
			if covers(permission, pattern) != want {
				t.Errorf("%s covers %s: %v", permission, pattern, !want)
			}
			if want {
				yes++
			}
		}
	}
	if n := len(some) * len(some); yes < n/20 || yes > n/2 {
		t.Errorf("%d of %d: the model says nothing", yes, n)
	}
}

func FuzzCovers(f *testing.F) {
	all := model()
	for _, permission := range []string{">", "*", "a.>", "a.*", "*.b.>", "a.b"} {
		f.Add(permission, "a.*.b")
		f.Add(permission, ">")
	}
	f.Fuzz(func(t *testing.T, permission, pattern string) {
		if CheckPermission(permission) != nil || CheckPermission(pattern) != nil {
			return
		}
		got := covers(permission, pattern)
		for _, name := range []string{permission, pattern} {
			for token := range strings.SplitSeq(name, ".") {
				if !slices.Contains([]string{"a", "b", "*", ">"}, token) || strings.Count(name, ".") > 2 {
					return // beyond the model: not to panic is enough
				}
			}
		}
		if want := coversByModel(all, permission, pattern); got != want {
			t.Errorf("%s covers %s: %v", permission, pattern, got)
		}
	})
}

func TestRightsAllocateNothing(t *testing.T) {
	r, err := NewRights([]string{"a.*.c", "b.>", "d.e.f.g"}, []string{"*.x.>"})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		_ = r.MaySubscribe("d.e.f.>")
		_ = r.MayPublish("a.x.y.z")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Equal rights are one value for as long as somebody has it, and none after.
func TestInterning(t *testing.T) {
	in := &interner{}
	first, err := in.rights([]string{"a.>", "b"}, []string{"c"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := in.rights([]string{"b", "a.>", "b"}, []string{"c", "c"})
	if err != nil || again != first {
		t.Errorf("equal rights are two: %v", err)
	}
	for _, other := range [][2][]string{{{"a.>", "b", "c"}, nil}, {{"a.>"}, {"b", "c"}}, {{"a.>", "b"}, nil}, {nil, {"a.>", "b", "c"}}} {
		if r, err := in.rights(other[0], other[1]); err != nil || r == first {
			t.Errorf("%v are the same, or %v", other, err)
		}
	}
	if _, err := in.rights([]string{""}, nil); err == nil {
		t.Error("a pattern that is none")
	}
	runtime.KeepAlive(first)
	first, again = nil, nil
	for deadline := time.Now().Add(testTimeout); ; {
		runtime.GC()
		in.mu.Lock()
		left := len(in.known)
		in.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d rights that nobody has are still known", left)
		}
	}
}

// TestByName tells permissions that name a namespace from those that span all.
func TestByName(t *testing.T) {
	for _, tt := range []struct {
		permissions []string
		want        bool
	}{
		{nil, false},
		{[]string{">"}, false},
		{[]string{"*"}, false},
		{[]string{"*.>", "*.nodes.*"}, false},
		{[]string{"_pushdx.>", "a._pushd.>"}, false},
		{[]string{"_pushd.nodes.a"}, false}, // not all of it
		{[]string{">", "_pushd.>"}, true},
		{[]string{"_pushd.nodes.*"}, true},
		{[]string{"_pushd.*.*"}, true},
	} {
		r, err := NewRights(tt.permissions, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.MaySubscribeByName("_pushd.nodes.*"); got != tt.want {
			t.Errorf("%v: %v", tt.permissions, got)
		}
	}
}
