package auth

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"

	"github.com/pushd/pushd/topics"
)

// MaxPermissions bounds each of the two lists of a [Rights], which are walked
// at every subscription and publication.
const MaxPermissions = 256

// NewRights returns the rights to subscribe and to publish what the patterns
// cover: at most 256 of each. They are those of package topics, and since a permission may
// span namespaces, ">" alone and "*" as the first token besides.
func NewRights(subscribe, publish []string) (*Rights, error) {
	var err error
	r := &Rights{}
	if r.subscribe, err = permissions("subscribe", subscribe); err != nil {
		return nil, err
	}
	if r.publish, err = permissions("publish", publish); err != nil {
		return nil, err
	}
	return r, nil
}

// permissions checks patterns, and returns them in the one order in which
// equal sets are equal lists.
func permissions(list string, patterns []string) ([]string, error) {
	if len(patterns) > MaxPermissions {
		return nil, fmt.Errorf("%s has %d patterns, of at most %d", list, len(patterns), MaxPermissions)
	}
	for _, pattern := range patterns {
		if err := CheckPermission(pattern); err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
	}
	sorted := slices.Clone(patterns)
	slices.Sort(sorted)
	return slices.Compact(sorted), nil
}

// CheckPermission reports whether pattern may stand in a [Rights].
func CheckPermission(pattern string) error {
	switch tail, first := strings.CutPrefix(pattern, "*"); {
	case pattern == ">", pattern == "*":
		return nil
	case first && tail[0] == '.':
		return topics.CheckPattern("n" + tail) // any namespace stands for all
	}
	return topics.CheckPattern(pattern)
}

// MaySubscribe reports whether a valid pattern may be subscribed to. One
// permission has to cover all of it: that a.b and a.* may be heard does not
// make up a.>, and neither do permissions that together cover a wildcard, for
// the topics that it will match are not known yet. It does not allocate.
func (r *Rights) MaySubscribe(pattern string) bool { return anyCovers(r.subscribe, pattern) }

// MayPublish reports whether a valid topic may be published to. It does not
// allocate.
func (r *Rights) MayPublish(topic string) bool { return anyCovers(r.publish, topic) }

// MaySubscribeByName is MaySubscribe by those permissions alone that name the
// pattern's namespace: neither ">" nor "*.>" is one. It does not allocate.
func (r *Rights) MaySubscribeByName(pattern string) bool {
	for _, permission := range r.subscribe {
		if topics.Namespace(permission) == topics.Namespace(pattern) && covers(permission, pattern) {
			return true
		}
	}
	return false
}

func anyCovers(permissions []string, pattern string) bool {
	for _, permission := range permissions {
		if covers(permission, pattern) {
			return true
		}
	}
	return false
}

// covers reports whether permission matches every topic that pattern does.
func covers(permission, pattern string) bool {
	for {
		may, mayTail, mayMore := strings.Cut(permission, ".")
		if may == ">" {
			return true // what is left of pattern asks for at least one token
		}
		asked, askedTail, askedMore := strings.Cut(pattern, ".")
		switch {
		case asked == ">": // any number of tokens, and this permission ends somewhere or names one more
			return false
		case may != "*" && may != asked, mayMore != askedMore:
			return false
		case !mayMore:
			return true
		}
		permission, pattern = mayTail, askedTail
	}
}

// interner keeps one Rights of each kind for as long as somebody has it.
type interner struct {
	mu    sync.Mutex
	known map[string]weak.Pointer[Rights] // guarded by mu
}

// rights is [NewRights] that returns the value it returned before, if that is
// still in use.
func (in *interner) rights(subscribe, publish []string) (*Rights, error) {
	r, err := NewRights(subscribe, publish)
	if err != nil {
		return nil, err
	}
	key := strings.Join(r.subscribe, ",") + "|" + strings.Join(r.publish, ",") // neither is in a pattern
	in.mu.Lock()
	defer in.mu.Unlock()
	if before := in.known[key].Value(); before != nil {
		return before, nil
	}
	if in.known == nil {
		in.known = make(map[string]weak.Pointer[Rights])
	}
	in.known[key] = weak.Make(r)
	runtime.AddCleanup(r, in.forget, key)
	return r, nil
}

// forget drops an entry that nobody has any more, unless another has taken
// its place.
func (in *interner) forget(key string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.known[key].Value() == nil {
		delete(in.known, key)
	}
}
