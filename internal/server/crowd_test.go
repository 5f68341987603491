package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A crowd is many clients in a process of their own, since a process has only
// so many files: the test binary, run again with this in its environment.
const crowdVariable = "PUSHD_TEST_CROWD"

// crowdMain is the crowd's process: "ADDRESS PATH COUNT". It opens that many
// WebSockets, or streams of events (over TLS where the path begins with "tls:",
// with compression where it begins with "deflate:"), says so, keeps them until
// its input ends, and counts what came.
func crowdMain(spec string) int {
	var address, path string
	var count int
	if _, err := fmt.Sscan(spec, &address, &path, &count); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	path, secured := strings.CutPrefix(path, "tls:")
	path, deflates := strings.CutPrefix(path, "deflate:")
	extensions := ""
	if deflates {
		extensions = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	}
	conns := make([]net.Conn, count)
	buf := make([]byte, 4096)
	for i := range conns {
		c, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			fmt.Fprintln(os.Stderr, i, err)
			return 1
		}
		if secured {
			c = tls.Client(c, crowdTLS)
		}
		conns[i] = c
		topicPath := strings.ReplaceAll(path, "{i}", strconv.Itoa(i/30))
		if strings.Contains(topicPath, "{token}") {
			token, err := crowdToken(i)
			if err != nil {
				fmt.Fprintln(os.Stderr, i, err)
				return 1
			}
			topicPath = strings.ReplaceAll(topicPath, "{token}", token)
		}
		upgrade, begins := "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+extensions, "HTTP/1.1 101 "
		if strings.HasPrefix(path, eventsPath) || strings.HasPrefix(path, pollPath) {
			upgrade, begins = "", "HTTP/1.1 200 "
		}
		_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", topicPath, upgrade)
		if err != nil {
			fmt.Fprintln(os.Stderr, i, err)
			return 1
		}
		if strings.HasPrefix(path, pollPath) {
			continue // nothing comes while it waits
		}
		// The head, welcome and subscribed leave in one write, so they come in one read.
		c.SetReadDeadline(time.Now().Add(patience))
		n, err := c.Read(buf)
		if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, begins) || !strings.Contains(got, `"subscribed"`) || strings.Contains(got, "permessage-deflate") != deflates {
			fmt.Fprintf(os.Stderr, "client %d got %q, %v\n", i, got, err)
			return 1
		}
	}
	fmt.Println("open")
	bufio.NewScanner(os.Stdin).Scan()
	for _, c := range conns {
		c.Close()
	}
	return 0
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
