package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// A mob is many hostile clients from few addresses, in a process of their own:
// the test binary, run again with this in its environment.
const mobVariable = "PUSHD_TEST_MOB"

// mobSpec is what a mob is told.
type mobSpec struct {
	Address string
	Count   int
	Pause   time.Duration // until one that was thrown out comes again
	Token   string        // a good one: some of them are customers
	Topic   string        // that it is good for
}

// mobReport says how often clients of each kind connected.
type mobReport struct {
	Connected map[string]int64
	Failed    int64
	Error     string // one of the failures
}

const mobUpgrade = "GET /ws?topic=%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n"

// mobKinds are the hostile clients: each writes until it is thrown out.
var mobKinds = []struct {
	name string
	act  func(c net.Conn, s *mobSpec) error
}{
	{"silent", func(net.Conn, *mobSpec) error { return nil }},
	{"slow head", func(c net.Conn, s *mobSpec) error {
		return drip(c, fmt.Sprintf(mobUpgrade, s.Topic, s.Token))
	}},
	{"half a ClientHello", func(c net.Conn, _ *mobSpec) error {
		_, err := io.WriteString(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		return err
	}},
	{"forged token", func(c net.Conn, s *mobSpec) error {
		_, err := fmt.Fprintf(c, mobUpgrade, s.Topic, s.Token[:len(s.Token)-8]+"AAAAAAAA")
		return err
	}},
	{"ping flood", func(c net.Conn, s *mobSpec) error {
		return flood(c, s, ws.NewPingFrame(nil))
	}},
	{"fragment flood", func(c net.Conn, s *mobSpec) error {
		return flood(c, s, ws.NewFrame(ws.OpContinuation, false, nil), ws.NewFrame(ws.OpText, false, nil))
	}},
	{"command flood", func(c net.Conn, s *mobSpec) error {
		return flood(c, s, ws.NewTextFrame([]byte(`{"type":"subscribe","topic":"elsewhere.x"}`)))
	}},
	{"half a message", func(c net.Conn, s *mobSpec) error {
		if _, err := fmt.Fprintf(c, mobUpgrade, s.Topic, s.Token); err != nil {
			return err
		}
		frame := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame(bytes.Repeat([]byte("x"), 60_000))))
		_, err := c.Write(frame[:50_000])
		return err
	}},
	{"slow body", func(c net.Conn, s *mobSpec) error {
		return drip(c, "POST /publish/"+s.Topic+" HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n", strings.Repeat("x", 60_000))
	}},
	{"reset", func(c net.Conn, _ *mobSpec) error { return c.Close() }},
}

// drip writes the first text at once, if there are two, and else a byte at a time.
func drip(c net.Conn, texts ...string) error {
	last := texts[len(texts)-1]
	if _, err := io.WriteString(c, strings.Join(texts[:len(texts)-1], "")); err != nil {
		return err
	}
	for i := range last {
		if _, err := io.WriteString(c, last[i:i+1]); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// flood upgrades and writes frames of one kind, behind others, without end.
func flood(c net.Conn, s *mobSpec, f ws.Frame, before ...ws.Frame) error {
	if _, err := fmt.Fprintf(c, mobUpgrade, s.Topic, s.Token); err != nil {
		return err
	}
	for _, b := range before {
		if err := ws.WriteFrame(c, ws.MaskFrame(b)); err != nil {
			return err
		}
	}
	block := bytes.Repeat(ws.MustCompileFrame(ws.MaskFrame(f)), 500)
	for {
		if _, err := c.Write(block); err != nil {
			return err
		}
	}
}

// mobMain is the mob's process. It attacks until its input ends, and reports.
func mobMain(text string) int {
	var spec mobSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	m := mob{spec: spec, connected: make([]atomic.Int64, len(mobKinds)), ended: make(chan struct{})}
	for i := range spec.Count {
		m.clients.Go(func() { m.client(i) })
	}
	fmt.Println("attacking")
	bufio.NewScanner(os.Stdin).Scan()
	close(m.ended)
	m.clients.Wait()
	report := mobReport{Connected: make(map[string]int64), Failed: m.failed.Load()}
	for i, kind := range mobKinds {
		report.Connected[kind.name] = m.connected[i].Load()
	}
	report.Error, _ = m.failure.Load().(string)
	json.NewEncoder(os.Stdout).Encode(report)
	return 0
}

type mob struct {
	spec    mobSpec
	clients sync.WaitGroup
	ended   chan struct{}

	// Atomic.
	connected []atomic.Int64 // by kind
	failed    atomic.Int64
	failure   atomic.Value // string
}

// client is one of them, who comes again whenever it is thrown out.
func (m *mob) client(i int) {
	kind := i % len(mobKinds)
	dialer := net.Dialer{
		Timeout:   patience,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/len(mobKinds)%3))},
		Control: func(_, _ string, c syscall.RawConn) error { // so that ports last
			var failed error
			return errors.Join(c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			}), failed)
		},
	}
	for wait := time.Duration(rand.Int64N(int64(m.spec.Pause))); ; wait = m.spec.Pause {
		select {
		case <-m.ended:
			return
		case <-time.After(wait):
		}
		c, err := dialer.Dial("tcp", m.spec.Address)
		if err != nil {
			m.failed.Add(1)
			m.failure.Store(err.Error())
			continue
		}
		m.connected[kind].Add(1)
		c.(*net.TCPConn).SetLinger(0)
		m.stay(c, kind)
	}
}

// stay acts, and reads until it is thrown out or all is over.
func (m *mob) stay(c net.Conn, kind int) {
	gone := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() {
		select {
		case <-m.ended:
		case <-gone:
		}
		c.Close()
	})
	both.Go(func() { mobKinds[kind].act(c, &m.spec) }) // that it is cut off is the point
	io.Copy(io.Discard, c)
	close(gone)
	both.Wait()
}

// startMob begins an attack; end ends it and says what there was.
func startMob(t testing.TB, spec mobSpec) (end func() mobReport) {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	stop := startHelper(t, mobVariable, string(text))
	return func() (report mobReport) {
		if said := stop(); json.Unmarshal([]byte(said), &report) != nil {
			t.Errorf("the mob reports %q", said)
		}
		return report
	}
}
