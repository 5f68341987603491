package auth

import (
	"bytes"
	"context"
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
