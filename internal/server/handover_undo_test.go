package server

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/poller"
)

// The first process of a container would take the container with it.
func TestHotUpgradeOfTheFirstProcess(t *testing.T) {
	r, _ := startUpgrading(t)
	r.next.pid = 1
	r.next.start = func(*os.File) (*os.Process, error) {
		t.Error("a process was started")
		return nil, os.ErrInvalid
	}
	if _, err := r.Upgrade(); err != errIsInit {
		t.Errorf("%v, want %v", err, errIsInit)
	}
}

// What a link in the path leads to by the time of the upgrade is started, and not
// what it led to before; and the answer says which version that is.
func TestHotUpgradeThroughALink(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	current := filepath.Join(dir, "current")
	if err := os.Symlink(filepath.Dir(self), current); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", current)
	linked := filepath.Join(current, filepath.Base(self))
	for name, want := range map[string]string{
		linked:              linked,
		filepath.Base(self): linked, // found in PATH
		self:                self,
		"no such name":      self,
		other:               self, // what runs is not that
	} {
		if path, err := calledAs(name); err != nil || path != want {
			t.Errorf("started as %s: %s, %v, want %s", name, path, err, want)
		}
	}
}

// A client whose rights cannot be sent any more goes on like the others.
func TestHotUpgradeFailsAmidClients(t *testing.T) {
	r := secure(t)
	token := tokenFor(t, "alice", may{subscribe: "chat.*", publish: "chat.*"}, time.Hour)
	var all []*socket
	for range 4 {
		s := r.dial("topic=chat.x&mode=latest&max_rate=50&token=" + token)
		s.want("welcome")
		s.want("subscribed")
		all = append(all, s)
	}
	for n := range 3 {
		none := make([]map[poller.Token]bool, len(r.shards))
		link, theirs, err := handover.Pair()
		if err != nil {
			t.Fatal(err)
		}
		broken := errors.New("the link is broken")
		loops := r.pauseAll(none)
		r.hub.Export()
		numbers := rightsNumbers{known: make(map[*auth.Rights]uint64), send: func(handover.Rights) error { return broken }}
		failed := 0
		for _, p := range loops {
			p.do(func() {
				if p.export(link, &numbers) != nil {
					failed++
				}
			})
		}
		for _, p := range loops {
			p.do(func() { p.end(false) })
			close(p.work)
		}
		if failed == 0 {
			t.Fatal("nothing failed")
		}
		link.Close()
		theirs.Close()
		if status, _, body := r.request(http.MethodPost, "http://"+r.Addr()+"/publish/chat.x", "", fmt.Sprint(n), "Authorization", "Bearer "+token); status != http.StatusAccepted {
			t.Fatalf("%d %s", status, body)
		}
		for _, s := range all {
			s.wantData("chat.x", fmt.Sprint(n))
		}
	}
}

// Where nobody accepts on the admin listener any more, nobody waits for that.
func TestHoldAdminListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAdminListener(l)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.hold(10 * time.Millisecond); err != errAdminAway {
		t.Errorf("%v, want %v", err, errAdminAway)
	}
	a.goOn()
	accepted := make(chan error)
	accept := func() {
		c, err := a.Accept()
		if err == nil {
			c.Close()
		}
		accepted <- err
	}
	go accept()
	if err := a.hold(patience); err != nil {
		t.Error(err)
	}
	a.goOn()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}
