package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// New keys are found by themselves. What is broken changes nothing, and is told once.
func TestWatch(t *testing.T) {
	old, next := keysOf(), newIssuer()
	file := writeFile(t, publicPEM(t, old.ec))
	var log logged
	s := openService(t, Config{KeyFiles: []string{file}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.watch(ctx, time.Millisecond) })
	defer running.Wait()
	defer cancel()
	replace := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("gave up waiting: %s", what)
			}
		}
	}
	accepts := func(i *issuer) bool {
		t.Helper()
		return reasonOf(t, s, i.sign(t, "ES256", claimMap(nil), nil)) == ""
	}
	const stay = "the old ones stay"
	replace("broken")
	until("the log", func() bool { return log.count(stay) > 0 })
	for range 20 {
		s.check()
	}
	if n := log.count(stay); n != 1 || !accepts(old) {
		t.Errorf("the same fault was told %d times; the old key is taken: %v", n, accepts(old))
	}
	replace(publicPEM(t, next.ec))
	until("the new key", func() bool { return accepts(next) })
	if accepts(old) {
		t.Error("the old key is taken still")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	until("the log", func() bool { return log.count(stay) > 1 })
	replace(publicPEM(t, next.ec)) // as it was
	until("the log", func() bool { return log.count("in force") > 1 })
	if !accepts(next) {
		t.Error("the last good key is not taken")
	}
}

// A file that is written in place may be read half written: that is not put in force,
// but by who asks for it.
func TestWatchHalfWritten(t *testing.T) {
	const old, half, whole = "an old secret that is long enough", "the first half of a new secret, cut", "the first half of a new secret, cut off and gone on"
	file := writeFile(t, old)
	s := openService(t, Config{SecretFile: file, Log: slog.New(slog.DiscardHandler)})
	claims, err := json.Marshal(claimMap(nil))
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		text string
		look func()
		want string
	}{
		{half, s.check, old},
		{whole, s.check, old},
		{half, s.check, old},
		{old, s.check, old},
		{half, s.check, old},
		{whole, s.check, old},
		{whole, s.check, whole},
		{half, func() { s.Reload() }, half},
		{whole, s.check, half},
		{whole, func() { s.Reload() }, whole},
	}
	for n, step := range steps {
		if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		step.look()
		for _, secret := range []string{old, half, whole} {
			if taken := reasonOf(t, s, signedBy(secret, `{"alg":"HS256"}`, string(claims))) == ""; taken != (secret == step.want) {
				t.Errorf("step %d: %q is taken: %v", n+1, secret, taken)
			}
		}
	}
}

// logged is a log that is read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(phrase string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), phrase)
}
