package server

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/natstest"
)

// network is a network namespace of the kernel, with one cable to this one.
type network struct {
	t           testing.TB
	name        string
	here, there string // the addresses of its two ends
}

// newNetwork skips the test where there can be none.
func newNetwork(t testing.TB) *network {
	t.Helper()
	for _, program := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(program); err != nil || os.Getuid() != 0 {
			t.Skip("needs root, ip and iptables")
		}
	}
	n := rand.IntN(1 << 14)
	net := fmt.Sprintf("198.18.%d.%d", n>>6, n&63<<2) // for tests between networks (RFC 2544, C.2.2)
	base := net[:strings.LastIndex(net, ".")+1]
	w := &network{t: t, name: fmt.Sprintf("pushd%05d", n), here: fmt.Sprint(base, n&63<<2+1), there: fmt.Sprint(base, n&63<<2+2)}
	if out, err := exec.Command("ip", "netns", "add", w.name).CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %s", out)
	}
	t.Cleanup(func() { w.do("ip", "netns", "del", w.name) })
	w.do("ip", "link", "add", w.name, "type", "veth", "peer", "name", "eth0", "netns", w.name)
	w.do("ip", "addr", "add", w.here+"/30", "dev", w.name)
	w.do("ip", "link", "set", w.name, "up")
	w.inside("ip", "addr", "add", w.there+"/30", "dev", "eth0")
	w.inside("ip", "link", "set", "eth0", "up")
	w.inside("ip", "link", "set", "lo", "up")
	return w
}

func (w *network) do(command ...string) {
	w.t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// within is a command as it is run inside.
func (w *network) within(command ...string) []string {
	return append([]string{"ip", "netns", "exec", w.name}, command...)
}

func (w *network) inside(command ...string) {
	w.t.Helper()
	w.do(w.within(command...)...)
}

// TestPartitionOfPackets is TestPartition where the kernel drops packets between the node and
// NATS: what was sent is lost, and what was connected does not come back.
func TestPartitionOfPackets(t *testing.T) {
	if !soaking() {
		t.Skip("TestPartition does the same by a proxy; PUSHD_SOAK=1 runs this")
	}
	w := newNetwork(t)
	server := natstest.Start(t, natstest.Store(t.TempDir()))
	c := layCable(t, w.here, server.Addr()) // for the server listens on loopback
	path, config := buildKeeping(t, "{age: 1h}")
	secret := filepath.Join(t.TempDir(), "token")
	token := strings.Repeat("operator", 4)
	if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	near := &runningNode{t: t, name: "near", token: token}
	near.at(w.there)
	near.serve(w.within(append([]string{path}, near.settings("--config="+config, "--nats=nats://"+c.listener.Addr().String(), "--open", "--admin-token-file="+secret)...)...)...)
	_, port, err := net.SplitHostPort(c.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := &partition{t: t, nats: server, near: near, far: newRunningNode(t, path, "far", "--config="+config, "--nats="+server.URL())}
	p.cut = func() {
		w.inside("iptables", "-A", "OUTPUT", "-p", "tcp", "--dport", port, "-j", "DROP")
		w.inside("iptables", "-A", "INPUT", "-p", "tcp", "--sport", port, "-j", "DROP")
	}
	p.heal = func() { w.inside("iptables", "-F") }
	p.run()
}
