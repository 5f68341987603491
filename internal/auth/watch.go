package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// readEvery is how often Run reads the files of keys.
const readEvery = 5 * time.Second

// Run reads the files of keys again and again, until ctx is done. What was wrong
// with them is logged once for each content.
func (s *Service) Run(ctx context.Context) { s.watch(ctx, readEvery) }

func (s *Service) watch(ctx context.Context, every time.Duration) {
	if s.config.SecretFile == "" && len(s.config.KeyFiles) == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.check()
		}
	}
}

// check waits until two looks in a row have read the same: a file that is written in
// place may be read half written, and half a secret is one too.
func (s *Service) check() {
	switch changed, err := s.load(true); {
	case !changed:
	case err != nil:
		s.config.Log.Error("the new keys of tokens cannot be used; the old ones stay", "err", err)
	default:
		s.config.Log.Info("new keys of tokens are in force", "keys", len(*s.files.Load()))
	}
}

// Reload reads the files of keys now, and puts in force what is there. Where one of them is broken, all keys stay as
// they were, and the error says why.
func (s *Service) Reload() error {
	_, err := s.load(false)
	return err
}

// load puts in force what the files say; twice: if the look before read the same.
// changed: it is not what was judged last. It looks at contents, as the times of
// files say little: Kubernetes changes a link above their directory.
func (s *Service) load(twice bool) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest := sha256.New()
	keys, err := readKeys(s.config.Secret, s.config.SecretFile, s.config.KeyFiles, func(path string) ([]byte, error) {
		text, err := readKeyFile(path)
		fmt.Fprintf(digest, "%d %v\n%s", len(text), err, text)
		return text, err
	})
	read := [sha256.Size]byte(digest.Sum(nil))
	again := read == s.seen
	s.seen = read
	if twice && !again || read == s.tried {
		return false, err
	}
	s.tried = read
	if err == nil {
		s.files.Store(&keys)
	}
	return true, err
}
