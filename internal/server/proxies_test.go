package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/internal/tooltest"
)

// proxies are reverse proxies, and how one is started with what docs/PROXIES.md has for it.
var proxies = []struct {
	name   string
	around string // of the settings: what a distribution's own file has beside them
	start  func(file string) *exec.Cmd
}{
	{"nginx", "daemon off; worker_processes 1; pid nginx.pid; error_log stderr; events { worker_connections 512; }\n" +
		"http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n%s}\n",
		func(file string) *exec.Cmd { return exec.Command("nginx", "-p", filepath.Dir(file), "-c", file) }},
	{"haproxy", "global\n    maxconn 512\n%s", func(file string) *exec.Cmd { return exec.Command("haproxy", "-db", "-f", file) }},
}

// startProxy starts a proxy in front of a server as docs/PROXIES.md says, except
// that it waits 3 s where the document has a minute. It returns its address.
func startProxy(t *testing.T, r *running, name, around string, start func(string) *exec.Cmd) string {
	t.Helper()
	tooltest.Find(t, map[string]string{"nginx": "nginx-light", "haproxy": "haproxy"}[name], name)
	text, err := os.ReadFile("../../docs/PROXIES.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```" + name + "\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatalf("docs/PROXIES.md has no settings of %s", name)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(natstest.FreePort(t)))
	settings := regexp.MustCompile(`127\.0\.0\.1:808[89]`).ReplaceAllString(string(found[1]), address)
	settings = strings.ReplaceAll(settings, "127.0.0.1:8080", r.Addr())
	settings = strings.ReplaceAll(settings, "60s", "3s")
	file := filepath.Join(t.TempDir(), "proxy.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, around, settings), 0o644); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := start(file)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // it was told to end
		if t.Failed() {
			t.Logf("%s says:\n%s", name, said.Bytes())
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen:\n%s", name, said.Bytes())
		}
	}
}

// TestProxies has every transport go through real proxies, and be silent for
// longer than they wait: heartbeats keep it.
func TestProxies(t *testing.T) {
	for _, proxy := range proxies {
		t.Run(proxy.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(c *config.Config) {
				c.TrustForwarded = []string{"127.0.0.1"}
				c.Heartbeat = time.Second
			})
			address := startProxy(t, r, proxy.name, proxy.around, proxy.start)
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}, Timeout: patience}
			client := &http.Client{Transport: &http.Transport{DialContext: from.DialContext}, Timeout: patience}
			defer client.CloseIdleConnections()

			over := socketThrough(t, from, address)
			events := eventsThrough(t, client, address)
			poll := make(chan []string, 1)
			go func() { poll <- pollThrough(t, client, address) }()
			r.wantConnectionsOf("127.0.0.9", 3)
			time.Sleep(4 * time.Second)
			response, err := client.Post("http://"+address+"/publish/chat.lobby", "application/json", strings.NewReader(`"through"`))
			if err != nil || response.StatusCode != http.StatusAccepted {
				t.Fatalf("publish: %v %v", response, err)
			}
			response.Body.Close()
			for what, got := range map[string]string{"WebSocket": over(), "events": events()} {
				if got != `"through"` {
					t.Errorf("%s brought %s", what, got)
				}
			}
			if got := <-poll; len(got) != 1 || got[0] != `"through"` {
				t.Errorf("the poll brought %s", got)
			}
		})
	}
}

// wantConnectionsOf waits until an address has so many connections.
func (r *running) wantConnectionsOf(address string, n int) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var all struct{ Connections []connectionInfo }
		r.do(200, "GET", "/connections?address="+address, &all)
		if len(all.Connections) == n {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s has %d connections, want %d: %+v", address, len(all.Connections), n, all.Connections)
		}
	}
}

// socketThrough opens a WebSocket, and returns what waits for the next message.
func socketThrough(t *testing.T, from *net.Dialer, address string) func() string {
	t.Helper()
	dialer := ws.Dialer{NetDial: from.DialContext, Timeout: patience}
	c, early, _, err := dialer.Dial(context.Background(), "ws://"+address+"/ws?topic=chat.*")
	if err != nil {
		t.Fatalf("WebSocket: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	in := bufio.NewReader(c)
	if early != nil {
		in = early
	}
	both := struct {
		io.Reader
		io.Writer
	}{in, c}
	brought := make(chan string, 1)
	go func() { // at once, so that pings are answered
		for {
			_ = c.SetReadDeadline(time.Now().Add(patience))
			text, err := wsutil.ReadServerText(both)
			if err != nil {
				brought <- err.Error()
				return
			}
			if data, ok := payloadOf(text); ok {
				brought <- data
				return
			}
		}
	}()
	return func() string { return <-brought }
}

// eventsThrough opens an event stream, and returns what waits for the next message.
func eventsThrough(t *testing.T, client *http.Client, address string) func() string {
	t.Helper()
	response, err := client.Get("http://" + address + "/sse?topic=chat.*")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("events: %v %v", response, err)
	}
	t.Cleanup(func() { response.Body.Close() })
	lines := bufio.NewScanner(response.Body)
	return func() string {
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if data, ok := payloadOf([]byte(text)); ok {
					return data
				}
			}
		}
		return fmt.Sprint("the end: ", lines.Err())
	}
}

// pollThrough polls until there is something.
func pollThrough(t *testing.T, client *http.Client, address string) (data []string) {
	cursor := ""
	for deadline := time.Now().Add(patience); len(data) == 0 && time.Now().Before(deadline); {
		response, err := client.Get("http://" + address + "/poll?wait=2&topic=chat.*&cursor=" + cursor)
		if err != nil {
			t.Errorf("poll: %v", err)
			return nil
		}
		var answer struct {
			Messages []json.RawMessage
			Cursor   string
		}
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("poll: %d %v", response.StatusCode, err)
			return nil
		}
		cursor = answer.Cursor
		for _, m := range answer.Messages {
			if text, ok := payloadOf(m); ok {
				data = append(data, text)
			}
		}
	}
	return data
}

// payloadOf is the payload of a message; what is none is not ok.
func payloadOf(text []byte) (data string, ok bool) {
	var m struct {
		Type string
		Data json.RawMessage
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return err.Error(), true
	}
	return string(m.Data), m.Type == "message"
}
