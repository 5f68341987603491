package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/pushd/pushd/deploy/binary"
	"github.com/pushd/pushd/deploy/tooltest"
)

// contain runs what it is given in a root of its own that cannot be written to,
// as the image's user, with a volume at /var/lib/pushd, and /dev and /proc as
// every container has them.
const contain = `set -e
mount --bind "$1" "$1"
mount -t tmpfs -o mode=0700,uid=65532,gid=65532 tmpfs "$1/var/lib/pushd"
mkdir -p "$1/dev" "$1/proc"
mount -t tmpfs tmpfs "$1/dev"
touch "$1/dev/null"
mount --bind /dev/null "$1/dev/null"
mount -t proc proc "$1/proc"
mount -o remount,ro,bind "$1"
exec chroot --userspec=65532:65532 --groups= "$@"`

// TestRuns runs the image as a container runtime does: from its own files alone,
// read-only, as its user. It reaches NATS over TLS by the authorities of the image,
// and by --nats-ca; answers probes; and drains at SIGTERM.
func TestRuns(t *testing.T) {
	if os.Getuid() != 0 || exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", t.TempDir()).Run() != nil {
		tooltest.Skip(t, "root file system for a process", "as root, and not in every container")
	}
	dir := t.TempDir()
	built, err := binary.Build("../..", dir)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	authority, nats := natsWithTLS(t, dir)
	stranger, _ := certificate(t, dir, "stranger", nil)

	for _, test := range []struct {
		name     string
		trusts   []byte   // the image
		flags    []string // of serve
		mistrust bool
	}{
		{"authorities of the image", authority, nil, false},
		{"--nats-ca", stranger, []string{"--nats-ca=/mounted.pem"}, false},
		{"a stranger's authority", stranger, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			image, err := imageOf(program, test.trusts, "v0.1.0", "amd64")
			if err != nil {
				t.Fatal(err)
			}
			root := filepath.Join(t.TempDir(), "root")
			install(t, image, root)
			if err := os.WriteFile(filepath.Join(root, "mounted.pem"), authority, 0o644); err != nil { // as a secret is
				t.Fatal(err)
			}
			config, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			args := append([]string{"-m", "sh", "-c", contain, "contain", root}, append(config.Config.Entrypoint, config.Config.Cmd...)...)
			command := exec.Command("unshare", append(append(args, "--nats="+nats, "--drain-window=1s"), test.flags...)...)
			command.Env = []string{"PATH=" + os.Getenv("PATH")}
			p, err := binary.StartCommand(command)
			if test.mistrust {
				if err == nil || !strings.Contains(err.Error(), "certificate") {
					t.Errorf("NATS of an unknown authority: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Stop)
			wantContained(t, p)
			serves(t, p)
		})
	}

	// The embedded NATS keeps its files in the volume.
	image, err := imageOf(program, stranger, "v0.1.0", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	install(t, image, root)
	for store, works := range map[string]bool{"/var/lib/pushd": true, "/elsewhere": false} {
		p, err := binary.StartCommand(exec.Command("unshare", "-m", "sh", "-c", contain, "contain", root, "/pushd", "serve", "--store="+store))
		if (err == nil) != works {
			t.Errorf("--store %s: %v", store, err)
		}
		if err == nil {
			p.Stop()
		}
	}
}

// wantContained looks at the process as the kernel does.
func wantContained(t *testing.T, p *binary.Process) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(status), "\nUid:\t65532\t65532\t65532\t65532\n") || !strings.Contains(string(status), "\nGid:\t65532\t65532\t65532\t65532\n") {
		t.Errorf("it runs as\n%s", status)
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mounts), " / ") || !strings.Contains(string(mounts), " ro,") {
		t.Errorf("its root is not read-only:\n%s", mounts)
	}
}

// serves asks for its health, connects, and has it drain.
func serves(t *testing.T, p *binary.Process) {
	t.Helper()
	for _, probe := range []string{"/healthz", "/readyz"} {
		response, err := p.Get(probe)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	c, err := net.Dial("tcp", p.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /ws?topic=a.b HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", p.Listen)
	answer := make([]byte, 12)
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 101" {
		t.Fatalf("%q, %v", answer, err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	said, err := io.ReadAll(c)
	if !strings.Contains(string(said), `"type":"reconnect"`) || !strings.Contains(string(said), "\x88") {
		t.Errorf("a drain says %q, %v", said, err)
	}
	c.Close()
	if err := p.Wait(); err != nil {
		t.Errorf("after a drain: %v", err)
	}
	if response, err := http.Get("http://" + p.Admin + "/healthz"); err == nil {
		response.Body.Close()
		t.Error("it answers after its end")
	}
}

// install puts an image's files into a directory, as they are in it.
func install(t *testing.T, image v1.Image, root string) {
	t.Helper()
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, file := range unpack(t, image) {
		path := filepath.Join(root, name)
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, file.data, 0o600)
		}
		if err == nil {
			err = os.Chmod(path, os.FileMode(file.mode))
		}
		if err == nil {
			err = os.Chown(path, file.owner, file.owner)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil { // the image's user has to get there
		t.Fatal(err)
	}
}

// natsWithTLS starts a nats-server that insists on TLS, and returns the authority
// to trust, and its URL.
func natsWithTLS(t *testing.T, dir string) (authority []byte, url string) {
	t.Helper()
	nats, err := binary.BuildNATS("../..", dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	authority, key := certificate(t, dir, "nats", net.IPv4(127, 0, 0, 1))
	settings := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(settings, fmt.Appendf(nil, "listen: %q\ntls { cert_file: %q, key_file: %q }\n", address, filepath.Join(dir, "nats.crt"), key), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(nats, "-c", settings)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it runs until then
		_ = command.Wait()
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return authority, "tls://" + address
		}
		if time.Now().After(end) {
			t.Fatal("nats-server does not start")
		}
	}
}

// certificate makes one that is its own authority, of which it returns the text,
// and the file of its key.
func certificate(t *testing.T, dir, name string, ip net.IP) (text []byte, keyFile string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	signed, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	keyFile = filepath.Join(dir, name+".key")
	if err := os.WriteFile(filepath.Join(dir, name+".crt"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600); err != nil {
		t.Fatal(err)
	}
	return text, keyFile
}
