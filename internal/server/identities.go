package server

import (
	"hash/maphash"
	"sync"
)

// identities counts the connections of each identity, over all shards. It is
// touched when an authenticated connection opens and when it ends. A hash with
// a seed of its own stands for the name, which the session has: of a million
// names no two are alike but once in thirty million times.
type identities struct {
	// Static.
	seed maphash.Seed
	most uint32 // connections of one

	mu    sync.Mutex
	count map[uint64]uint32 // guarded by mu
}

func newIdentities(most int) *identities {
	return &identities{seed: maphash.MakeSeed(), most: uint32(most), count: make(map[uint64]uint32)}
}

// enter counts one more connection, and reports false where there is no room for it.
func (t *identities) enter(identity string) bool {
	key := maphash.String(t.seed, identity)
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.count[key]
	if n >= t.most {
		return false
	}
	t.count[key] = n + 1
	return true
}

// admit is enter where there is room for everybody.
func (t *identities) admit(identity string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count[maphash.String(t.seed, identity)]++
}

// leave undoes enter.
func (t *identities) leave(identity string) {
	key := maphash.String(t.seed, identity)
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.count[key]; n > 1 {
		t.count[key] = n - 1
	} else {
		delete(t.count, key)
	}
}

// len says how many identities are connected.
func (t *identities) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.count)
}
