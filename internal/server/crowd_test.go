package server

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A crowd is many clients in a process of their own, since a process has only
// so many files: the test binary, run again with this in its environment.
const crowdVariable = "PUSHD_TEST_CROWD"

// crowdWorkers is how many clients connect at a time: one spends most of it.
const crowdWorkers = 2

// visitors are what a crowd's process is told to open.
type visitors struct {
	address  string
	path     string
	secured  bool // over TLS
	deflates bool // asks for compression
}

// crowdMain is the crowd's process: "ADDRESS PATH COUNT". It opens that many
// WebSockets, or streams of events (over TLS where the path begins with "tls:",
// with compression where it begins with "deflate:"), says so, keeps them until
// its input ends, and counts what came.
func crowdMain(spec string) int {
	var v visitors
	var count int
	if _, err := fmt.Sscan(spec, &v.address, &v.path, &count); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	v.path, v.secured = strings.CutPrefix(v.path, "tls:")
	v.path, v.deflates = strings.CutPrefix(v.path, "deflate:")
	conns, errs := make([]net.Conn, count), make([]error, crowdWorkers)
	var opening sync.WaitGroup
	for worker := range errs {
		opening.Go(func() {
			buf := make([]byte, 4096)
			for i := worker; i < count; i += len(errs) {
				if conns[i], errs[worker] = v.open(i, buf); errs[worker] != nil {
					return
				}
			}
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("open")
	bufio.NewScanner(os.Stdin).Scan()
	for _, c := range conns {
		c.Close()
	}
	return 0
}

// open opens one of them.
func (v *visitors) open(i int, buf []byte) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", v.address, patience)
	if err != nil {
		return nil, fmt.Errorf("client %d: %w", i, err)
	}
	if v.secured {
		c = tls.Client(c, crowdTLS)
	}
	path := strings.ReplaceAll(v.path, "{i}", strconv.Itoa(i/30))
	if strings.Contains(path, "{token}") {
		token, err := crowdToken(i)
		if err != nil {
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
		path = strings.ReplaceAll(path, "{token}", token)
	}
	upgrade, begins := "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "HTTP/1.1 101 "
	if v.deflates {
		upgrade += "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	}
	if strings.HasPrefix(path, eventsPath) || strings.HasPrefix(path, pollPath) {
		upgrade, begins = "", "HTTP/1.1 200 "
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, upgrade); err != nil {
		return nil, fmt.Errorf("client %d: %w", i, err)
	}
	if strings.HasPrefix(path, pollPath) {
		return c, nil // nothing comes while it waits
	}
	// The head, welcome and subscribed leave in one write, so they come in one read.
	c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, begins) || !strings.Contains(got, `"subscribed"`) || strings.Contains(got, "permessage-deflate") != v.deflates {
		return nil, fmt.Errorf("client %d got %q, %v", i, got, err)
	}
	return c, nil
}

// crowdToken signs the token of one client, each with an identity of its own.
func crowdToken(i int) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": fmt.Sprintf("user-%08d@example.com", i), "exp": time.Now().Add(time.Hour + time.Duration(i)*time.Second).Unix(),
		"pushd": map[string]any{"subscribe": []string{"scores.>", "warm.>"}},
	}).SignedString([]byte(testSecret))
}

// crowd starts count clients on path, in which {i} is a number that 30
// of them have, and {token} each client's own, and waits until they are open. The returned function ends them.
func crowd(t testing.TB, address, path string, count int) (end func()) {
	t.Helper()
	stop := startHelper(t, crowdVariable, fmt.Sprintf("%s %s %d", address, path, count))
	return func() { stop() }
}

// crowdSize is how many connections one server process can have here, at most 15,000.
func crowdSize(t testing.TB) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return min(15_000, int(min(limit.Cur, 1<<20))-keptFiles-maxPlainConns-256)
}
