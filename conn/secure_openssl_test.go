package conn

import (
	"bytes"
	"io"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/tooltest"
)

// openssl is a client by other authors: openssl s_client.
type openssl struct {
	t  testing.TB
	in io.Writer

	// Guarded by mu.
	mu  sync.Mutex
	out bytes.Buffer
}

func (sh *shard) openssl(a authority, args ...string) *openssl {
	sh.t.Helper()
	path := tooltest.Find(sh.t, "openssl", "openssl")
	o := &openssl{t: sh.t}
	cmd := exec.Command(path, append([]string{"s_client", "-connect", sh.addr, "-servername", "localhost",
		"-CAfile", a.File(), "-verify_return_error", "-alpn", "http/1.1"}, args...)...)
	cmd.Stdout, cmd.Stderr = o, o
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		sh.t.Fatal(err)
	}
	o.in = in
	sh.t.Cleanup(func() {
		in.Close()
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer timer.Stop()
		_ = cmd.Wait() // its code says how the connection ended, which is not what is tested
	})
	return o
}

func (o *openssl) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.Write(p)
}

func (o *openssl) send(p ...any) {
	o.t.Helper()
	if _, err := o.in.Write(join(p...)); err != nil {
		o.t.Fatal(err)
	}
}

// want waits until it has printed p, and forgets what came up to there.
func (o *openssl) want(p ...any) {
	o.t.Helper()
	wanted := join(p...)
	found := func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		i := bytes.Index(o.out.Bytes(), wanted)
		if i >= 0 {
			o.out.Next(i + len(wanted))
		}
		return i >= 0
	}
	for end := time.Now().Add(patience); !found(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			o.t.Fatalf("openssl never printed %q, but\n%q", wanted, o.out.String())
		}
	}
}

// OpenSSL talks to it in both versions, and changes its keys at will, also so
// that ours change (RFC 8446, 4.6.3).
func TestSecureOpenSSL(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, &script{}, a.withTLS)
	for _, c := range []struct {
		flag, version string
		updates       []string
	}{
		{"-tls1_2", "TLSv1.2", nil},
		{"-tls1_3", "TLSv1.3", []string{"k\n", "K\n", "K\n", "k\n", "K\n"}},
	} {
		t.Run(c.version, func(t *testing.T) {
			o := sh.openssl(a, c.flag)
			o.want("New, " + c.version)
			o.send(plainRequest)
			o.want("101 Switching Protocols")
			echo := func(text string) {
				o.send(maskedText(text))
				o.want(AppendFrame(nil, ws.OpText, []byte(text)))
			}
			echo("first")
			for _, command := range c.updates {
				o.send(command)
				o.want("KEYUPDATE")
				echo("after " + command[:1])
				echo(pattern(5000))
			}
		})
	}
}
