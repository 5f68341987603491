package server

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/certstest"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/statistics"
)

// Other nodes count the same connections before a hot upgrade, during it, and when
// the process before has ended; and the node itself counts those of the others at once.
func TestHotUpgradeInCluster(t *testing.T) {
	t.Parallel()
	u, nc := startUpgradableOn(t, "node-name: a\n")
	r := start(t, func(c *config.Config) { c.NATS, c.NodeName = []string{nc.ConnectedUrl()}, "b" })
	for range 3 {
		u.subscribed("rooms.x")
	}
	r.subscribed("rooms.x")
	here := func() int {
		var p presence
		u.ask("GET", "/presence/rooms.x", &p)
		return p.Connections
	}
	eventually(t, "both count all", func() bool { return r.presence("rooms.x").Connections == 4 && here() == 4 })

	var watching sync.WaitGroup
	var over atomic.Bool
	seen := make(map[int]bool)
	watching.Go(func() {
		for ; !over.Load(); time.Sleep(time.Millisecond) {
			seen[r.connectionsOf("rooms.x")] = true
		}
	})
	defer watching.Wait()
	defer over.Store(true)
	for range 2 {
		before, _ := u.mustUpgrade()
		if n := here(); n != 4 {
			t.Errorf("the new process counts %d connections, want 4", n)
		}
		u.wantEnd(before)
	}
	began := time.Now()
	eventually(t, "nobody is taken for silent", func() bool { return time.Since(began) > 4500*time.Millisecond })
	over.Store(true)
	watching.Wait()
	if !maps.Equal(seen, map[int]bool{4: true}) {
		t.Errorf("the other node counted %v", slices.Sorted(maps.Keys(seen)))
	}
	if nodes := r.nodes(); !maps.Equal(nodes, map[string]string{"a": "serving", "b": "serving"}) {
		t.Errorf("nodes %v", nodes)
	}
	u.subscribed("rooms.x")
	eventually(t, "changes are told", func() bool { return r.presence("rooms.x").Connections == 5 })
	s := u.dial("")
	var did disconnected
	r.do(200, "POST", "/connections/"+s.want("welcome").Client+"/disconnect", &did)
	if code := s.wantClose(); code != 4003 {
		t.Errorf("closed with %d", code)
	}
}

// Clients over TLS stay with the process that has their keys, which drains them: each
// hears when it has to go, finds the new process, and misses nothing. Meanwhile they
// are counted, and found, as those of a node of its own.
func TestHotUpgradeDrainsTLS(t *testing.T) {
	t.Parallel()
	a := certstest.New(t)
	cert, key := a.Files(a.Server())
	const clients, window = 20, 3 * time.Second
	u, nc := startUpgradableOn(t, "node-name: a\nnamespaces:\n  scores: {delivery: all, history: {age: 1h}}\n",
		"--tls-cert="+cert, "--tls-key="+key, "--drain-window="+window.String())
	r := start(t, func(c *config.Config) { c.NATS, c.NodeName = []string{nc.ConnectedUrl()}, "b" })
	dial := func(query string) *socket {
		c, err := tls.Dial("tcp", u.Addr(), &tls.Config{RootCAs: a.Pool, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET /ws?%s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", query)
		in := bufio.NewReader(c)
		answer, err := http.ReadResponse(in, nil)
		if err != nil || answer.StatusCode != 101 {
			t.Fatalf("%v, %v", answer, err)
		}
		return &socket{t: t, conn: c, read: in}
	}
	var sockets []*socket
	var names []string
	for range clients {
		s := dial("topic=scores.x")
		names = append(names, s.want("welcome").Client)
		s.want("subscribed")
		sockets = append(sockets, s)
	}
	eventually(t, "they are counted", func() bool { return r.presence("scores.x").Connections == clients })
	v := voyage{t: t, u: u, Conn: nc}
	v.publish("scores.x", 1, 10)
	var cursors []string
	for _, s := range sockets {
		cursors = append(cursors, s.wantNumbers("scores.x", 1, 10).Cursor)
	}
	before, done := u.mustUpgrade()
	if done.Left != clients || done.Connections != 0 {
		t.Errorf("%+v, want %d left", done, clients)
	}
	eventually(t, "the process before is a node of its own", func() bool {
		nodes := r.nodes()
		return nodes["a"] == "serving" && nodes[fmt.Sprintf("a-retiring-%d", before)] == "closing"
	})
	var did disconnected
	r.do(200, "POST", "/connections/"+names[clients-1]+"/disconnect", &did)
	if code := sockets[clients-1].wantClose(); code != 4003 {
		t.Errorf("disconnected with %d", code)
	}
	v.publish("scores.x", 11, 20)
	var moving sync.WaitGroup
	for i, s := range sockets[:clients-1] {
		moving.Go(func() {
			next, cursor, advised := 11, cursors[i], false
			for {
				f, err := s.tryNext(patience)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				if f.Header.OpCode == ws.OpClose {
					if code, why := ws.ParseCloseFrameData(f.Payload); code != 1012 || !advised {
						t.Errorf("client %d is closed with %d %q, and was advised to go: %v", i, code, why, advised)
					}
					break
				}
				var m message
				if err := json.Unmarshal(f.Payload, &m); err != nil {
					t.Error(err)
				}
				switch m.Type {
				case "reconnect":
					advised = m.After <= window.Milliseconds()
				case "message":
					if string(m.Data) != fmt.Sprint(next) {
						t.Errorf("client %d received %s, want %d", i, m.Data, next)
					}
					next, cursor = next+1, m.Cursor
				}
			}
			again := dial("topic=scores.x&mode=all&cursor=" + cursor)
			again.want("welcome")
			again.want("subscribed")
			again.wantNumbers("scores.x", next, 30)
		})
	}
	time.Sleep(window / 3)
	v.publish("scores.x", 21, 30)
	moving.Wait()
	u.wantEnd(before)
	eventually(t, "it has said goodbye", func() bool { return len(r.nodes()) == 2 })
	eventually(t, "they are counted where they went", func() bool { return r.presence("scores.x").Connections == clients-1 })
}

var handedOver = regexp.MustCompile(`msg="hot upgrade: handed over" pid=(\d+)`)

// A chain of upgrades, asked for by one client that keeps its connections and is
// answered each time, while others ask for all kinds of things; then by a signal.
func TestHotUpgradeChain(t *testing.T) {
	t.Parallel()
	u, nc := startUpgradableOn(t, "")
	s := u.subscribed("chat.x")
	v := voyage{t: t, u: u, Conn: nc}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: patience}
	defer client.CloseIdleConnections()
	var asking sync.WaitGroup
	var over atomic.Bool
	asking.Go(func() {
		for !over.Load() { // on connections that are kept
			r, err := client.Get("http://" + u.admin + "/healthz")
			if err != nil {
				t.Errorf("GET /healthz: %v", err)
				return
			}
			r.Body.Close()
		}
	})
	defer asking.Wait()
	defer over.Store(true)
	poster := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer poster.CloseIdleConnections()
	files := make([]int, 10)
	var before int
	for i := range files {
		before = u.pid
		if status, body, _ := u.upgradeBy(poster); status != http.StatusOK {
			t.Fatalf("upgrade %d: %d %s", i, status, body)
		}
		v.publish("chat.x", i, i)
		s.wantData("chat.x", fmt.Sprint(i))
		u.wantEnd(before)
		files[i] = u.openFiles()
	}
	if slices.Max(files) > slices.Min(files)+8 || files[9] > files[0]+8 { // connections of who asks come and go
		t.Errorf("open files of the processes: %v", files)
	}
	over.Store(true)
	asking.Wait()

	before = u.pid
	if err := syscall.Kill(before, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	u.wantEnd(before)
	all := handedOver.FindAllStringSubmatch(u.log(), -1)
	if len(all) != 11 {
		t.Fatalf("%d upgrades", len(all))
	}
	fmt.Sscan(all[10][1], &u.pid)
	v.publish("chat.x", 11, 11)
	s.wantData("chat.x", "11")
	if err := syscall.Kill(u.pid, syscall.SIGHUP); err != nil { // which must not end it
		t.Fatal(err)
	}
	v.publish("chat.x", 13, 13)
	s.wantData("chat.x", "13")
	if strings.Contains(u.log(), "level=ERROR") {
		t.Errorf("the log has errors:\n%s", u.log())
	}
}

// Whoever asks for a second upgrade during one is refused. SIGTERM during one calls
// it off and drains, and the answer arrives.
func TestHotUpgradeIsCalledOff(t *testing.T) {
	t.Parallel()
	u, _ := startUpgradableOn(t, "drain-window: 1s\n")
	s := u.subscribed("chat.x")
	started := filepath.Join(t.TempDir(), "pid")
	hanging := filepath.Join(filepath.Dir(u.path), "hanging")
	if err := os.WriteFile(hanging, []byte("#!/bin/sh\necho $$ > "+started+".new && mv "+started+".new "+started+"\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(hanging, u.path); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		status int
		body   string
	}
	answered := make(chan answer, 1)
	go func() {
		status, body, _ := u.upgrade()
		answered <- answer{status, body}
	}()
	var child int
	eventually(t, "the new process runs", func() bool {
		text, err := os.ReadFile(started)
		_, scanned := fmt.Sscan(string(text), &child)
		return err == nil && scanned == nil
	})
	if status, body, _ := u.upgrade(); status != http.StatusConflict || !strings.Contains(body, "an upgrade is under way") {
		t.Errorf("a second one: %d %s", status, body)
	}
	if err := syscall.Kill(u.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.status != http.StatusConflict || !strings.Contains(a.body, errCalledOff.Error()) {
		t.Errorf("answered with %+v", a)
	}
	s.want("reconnect")
	if code := s.wantClose(); code != 1012 {
		t.Errorf("closed with %d", code)
	}
	u.wantEnd(u.pid)
	u.wantEnd(child)
}

// A node that is being drained, or has been handed over, hands over to nobody.
func TestHotUpgradeIsRefused(t *testing.T) {
	r, _ := startUpgrading(t)
	r.next.start = func(*os.File) (*os.Process, error) {
		t.Error("a process was started")
		return nil, os.ErrInvalid
	}
	var st drainStatus
	r.do(202, "POST", "/drain?grace=3600", &st)
	if _, err := r.Upgrade(); err != errCalledOff {
		t.Errorf("while it is drained: %v", err)
	}
	if state := r.nodes()[r.name]; state == statistics.StateGone {
		t.Errorf("it is %s", state)
	}
}
