package certs

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// contents is what the files had in them, by path. Times and inodes say
// little: Kubernetes changes a link above the directory, others write in place.
type contents map[string][]byte

// maxFile is more than any chain of certificates needs.
const maxFile = 1 << 20

// readAll reads every file. Of those that cannot be read it has no entry, and
// the error is about the first.
func readAll(cfg *Config) (c contents, err error) {
	c = make(contents)
	read := func(flag, path string) {
		p, readErr := readFile(path)
		if readErr != nil {
			if err == nil {
				err = fmt.Errorf("%s: %w", flag, readErr)
			}
			return
		}
		c[path] = p
	}
	for i := range cfg.Certs {
		read("--tls-cert", cfg.Certs[i])
		read("--tls-key", cfg.Keys[i])
	}
	if cfg.ClientCA != "" {
		read("--tls-client-ca", cfg.ClientCA)
	}
	return c, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(p) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return p, nil
}

func (c contents) equal(o contents) bool {
	if len(c) != len(o) {
		return false
	}
	for path, p := range c {
		if q, ok := o[path]; !ok || !bytes.Equal(p, q) {
			return false
		}
	}
	return true
}
