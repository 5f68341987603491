package natsbus

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	storeMemory = "memory"
	lockName    = "pushd.lock"
)

// store is the folder in which the embedded server's JetStream lives.
type store struct {
	dir       string
	temporary bool     // ours alone, removed at close
	lock      *os.File // nil where temporary
}

// openStore makes sure that name is a folder in which files can be made, and
// that no other pushd uses it: two servers on one folder would ruin it.
//
// For "memory" it is a folder of its own in the system's place for such: even
// streams in memory keep their configuration in files.
func openStore(name string) (*store, error) {
	if name == storeMemory {
		dir, err := os.MkdirTemp("", "pushd-")
		if err != nil {
			return nil, fmt.Errorf("cannot make a temporary folder for NATS in %s: %w: set TMPDIR, or a folder with --store", os.TempDir(), cause(err))
		}
		return &store{dir: dir, temporary: true}, nil
	}

	err := os.MkdirAll(name, 0o755)
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EEXIST) {
		return nil, fmt.Errorf("store %s is not a folder: choose a folder, or \"memory\", with --store", name)
	}
	if err == nil {
		err = tryWriting(name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write to store %s: %w: use a folder that this user can write, with --store", name, cause(err))
	}
	lock, err := lockStore(name)
	if err != nil {
		return nil, err
	}
	return &store{dir: name, lock: lock}, nil
}

// tryWriting makes a file, as permission bits alone do not tell of read-only
// file systems, full disks and the like.
func tryWriting(dir string) error {
	f, err := os.CreateTemp(dir, ".pushd-try-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// lockStore holds a lock that the kernel releases however the process ends.
// The file stays: to remove it would let two processes lock two files.
func lockStore(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w: use a folder that this user can write, with --store", path, cause(err))
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		pid, _ := io.ReadAll(io.LimitReader(f, 16))
		return nil, fmt.Errorf("store %s is in use by another pushd (process %s): stop it, or choose another folder with --store", dir, strings.TrimSpace(string(pid)))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // for the line above, and for people
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w: choose another folder with --store", path, cause(err))
	}
	return f, nil
}

func (s *store) close() error {
	if s.temporary {
		return os.RemoveAll(s.dir)
	}
	return s.lock.Close()
}
