package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

// asProgram, in the environment, makes the test binary the program itself.
const asProgram = "PUSHD_ECHO_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait; only a test that fails reaches it.
const patience = 20 * time.Second

// start runs an echo server on a free port until the test ends, and returns
// its address.
func start(t testing.TB, args ...string) (addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stdout, printed := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), printed, t.Output())
		printed.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if c := <-code; c != 0 {
			t.Errorf("exit code %d", c)
		}
	})
	return readAddr(t, stdout)
}

func readAddr(t testing.TB, stdout io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "echoing on ws://")
	if err != nil || !ok {
		t.Fatalf("printed %q (%v)", line, err)
	}
	return strings.TrimSuffix(url, "/")
}

// client is a raw socket behind a handshake.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "GET /any/path?at=all HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v %v", response, err)
	}
	return &client{Conn: c, t: t, r: r}
}

// read returns the next frame.
func (c *client) read() (ws.OpCode, []byte) {
	c.t.Helper()
	h, err := ws.ReadHeader(c.r)
	if err != nil {
		c.t.Fatalf("instead of a frame: %v", err)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		c.t.Fatal(err)
	}
	if !h.Fin || h.Masked || h.Rsv != 0 {
		c.t.Fatalf("a server sends no such frame: %+v", h)
	}
	return h.OpCode, payload
}

func (c *client) want(op ws.OpCode, payload []byte) {
	c.t.Helper()
	if gotOp, got := c.read(); gotOp != op || !bytes.Equal(got, payload) {
		c.t.Fatalf("got opcode %#x with %d bytes, want %#x with %d", gotOp, len(got), op, len(payload))
	}
}

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.Write(p); err != nil {
		c.t.Fatal(err)
	}
}

// frame is a client's: masked. first is its first byte: FIN, RSV, opcode.
func frame(first byte, payload string) []byte {
	f := ws.NewFrame(ws.OpCode(first&0xf), first&0x80 != 0, []byte(payload))
	f.Header.Rsv = first >> 4 & 7
	return ws.MustCompileFrame(ws.MaskFrameInPlaceWith(f, [4]byte{0x9c, 0x03, 0xf1, 0x50}))
}

func TestEcho(t *testing.T) {
	for _, backend := range []string{"epoll", "easygo"} {
		t.Run(backend, func(t *testing.T) {
			c := dial(t, start(t, "-poller", backend, "-shards", "2"))
			c.send(frame(0x81, "Grüße"))
			c.want(ws.OpText, []byte("Grüße"))
			c.send(frame(0x82, "\xff\x00"))
			c.want(ws.OpBinary, []byte("\xff\x00"))

			big := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
			go c.Write(frame(0x82, big))                     // the echo begins when all of it is there
			c.want(ws.OpBinary, []byte(big))

			c.send(frame(0x01, "one "))
			c.send(frame(0x00, "two "))
			c.send(frame(0x89, "between"))
			c.send(frame(0x80, "three"))
			c.want(ws.OpPong, []byte("between"))
			c.want(ws.OpText, []byte("one two three"))
		})
	}
}

func TestMaxMessage(t *testing.T) {
	for size, args := range map[int][]string{16 << 20: nil, 1000: {"-max-message", "1000B"}, 64 << 10: {"-max-message", "64KiB"}} {
		c := dial(t, start(t, args...))
		go c.Write(frame(0x82, strings.Repeat("x", size)))
		if op, payload := c.read(); op != ws.OpBinary || len(payload) != size {
			t.Errorf("%v: echo of %d bytes, want %d", args, len(payload), size)
		}
		c.send(frame(0x82, strings.Repeat("x", size+1))[:10])
		if op, payload := c.read(); op != ws.OpClose || !bytes.HasPrefix(payload, []byte("\x03\xf1")) {
			t.Errorf("%v: beyond the limit: opcode %#x %q, want 1009", args, op, payload)
		}
	}
}

func TestPlainRequest(t *testing.T) {
	r, err := http.Get("http://" + start(t) + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusUpgradeRequired || err != nil || int64(len(body)) != r.ContentLength {
		t.Errorf("status %d, body %q (%v)", r.StatusCode, body, err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestBadArguments(t *testing.T) {
	addr := start(t)
	cases := []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-max-message", "much"}, 2, "max-message"},
		{[]string{"-max-message", "0B"}, 2, "max-message"},
		{[]string{"-nonsense"}, 2, "nonsense"},
		{[]string{"127.0.0.1:0"}, 2, "only flags"},
		{[]string{"-listen", "127.0.0.1:0", "-shards", "0"}, 1, "at least 1"},
		{[]string{"-listen", "127.0.0.1:0", "-poller", "kqueue"}, 1, "kqueue"},
		{[]string{"-listen", addr}, 1, "choose another port"},
	}
	for _, tc := range cases {
		var out, errs bytes.Buffer
		if code := run(context.Background(), tc.args, &out, &errs); code != tc.code || !strings.Contains(errs.String(), tc.says) || out.Len() > 0 {
			t.Errorf("%q: code %d, %q, %q; want %d and %q", tc.args, code, out.String(), errs.String(), tc.code, tc.says)
		}
	}
}

func TestSignals(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-listen", "127.0.0.1:0")
			cmd.Env = append(os.Environ(), asProgram+"=1")
			cmd.Stderr = t.Output()
			stdout, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
			defer stuck.Stop()
			c := dial(t, readAddr(t, stdout))
			c.send(frame(0x81, "x"))
			c.want(ws.OpText, []byte("x"))
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, c) // the connection ends with it
			if err := cmd.Wait(); err != nil {
				t.Errorf("ended with %v, want exit code 0", err)
			}
		})
	}
}
