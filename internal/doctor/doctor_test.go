package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pushd/pushd/internal/certstest"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
)

func TestMain(m *testing.M) {
	natstest.Main()
	goleak.VerifyTestMain(m)
}

// well is what a machine says on which nothing is wrong.
var well = map[string]string{
	"proc/meminfo":                               "MemTotal:       16000000 kB\nMemFree: 1 kB\n",
	"proc/sys/net/core/somaxconn":                "4096\n",
	"proc/sys/net/ipv4/tcp_max_syn_backlog":      "16384\n",
	"proc/sys/net/ipv4/tcp_mem":                  "400000 500000 600000\n",
	"proc/sys/net/ipv4/ip_local_port_range":      "1024\t65535\n",
	"proc/sys/net/netfilter/nf_conntrack_max":    "1200000\n",
	"proc/sys/fs/file-max":                       "9223372036854775807\n",
	"proc/sys/fs/epoll/max_user_watches":         "3000000\n",
	"sys/fs/cgroup/memory.max":                   "max\n",
	"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
}

// machine has the files of well, with others in their place; "" removes one.
func machine(t *testing.T, instead map[string]string) Machine {
	t.Helper()
	root := t.TempDir()
	files := maps.Clone(well)
	maps.Copy(files, instead)
	for file, text := range files {
		if text != "" {
			write(t, filepath.Join(root, file), text, 0o600)
		}
	}
	return Machine{
		Root:  root,
		Files: func() (uint64, uint64, error) { return 500_000, 500_000, nil },
		Space: func(string) (uint64, error) { return 100 << 30, nil },
		URing: func() error { return nil },
		Now:   time.Now,

		Listen: func(string) error { return nil },
	}
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// bad returns what is not ok, a line each.
func bad(findings []Finding) string {
	var lines []string
	for _, f := range findings {
		if f.Level != OK {
			lines = append(lines, fmt.Sprintf("%s %s: %s -> %s", f.Level, f.Subject, f.Text, f.Cure))
		}
	}
	return strings.Join(lines, "\n")
}

func TestMachine(t *testing.T) {
	for _, test := range []struct {
		name   string
		files  map[string]string
		change func(*Machine, *config.Config)
		want   string // all that is not ok
	}{
		{name: "well", want: ""},
		{name: "nothing is known", files: map[string]string{"proc/meminfo": "", "proc/sys/net/core/somaxconn": "", "proc/sys/net/ipv4/tcp_max_syn_backlog": "", "proc/sys/net/ipv4/tcp_mem": "", "proc/sys/fs/file-max": "", "sys/fs/cgroup/memory/memory.limit_in_bytes": ""}},
		{"few files", nil, func(m *Machine, _ *config.Config) {
			m.Files = func() (uint64, uint64, error) { return 1024, 1024, nil }
		},
			"warning open files: 1024, which lets in 512 clients -> LimitNOFILE=1048576 in the unit, or nofile in limits.conf"},
		{"a soft limit", nil, func(m *Machine, _ *config.Config) {
			m.Files = func() (uint64, uint64, error) { return 20_000, 500_000, nil }
		},
			"warning open files: 20000, which lets in 19232 clients; the hard limit is 500000 -> ulimit -n 500000, which needs no rights"},
		{"more than there are files", nil, func(_ *Machine, c *config.Config) { c.MaxConnections = 600_000 },
			"failure open files: --max-connections 600000 is beyond the limit of open files, 500000: raise it (ulimit -n, LimitNOFILE=) or ask for less -> LimitNOFILE= or ulimit -n, or --max-connections"},
		{"little memory", map[string]string{"proc/meminfo": "MemTotal: 1000000 kB\n"}, nil,
			"warning memory: 499232 clients, --ring-memory, --receive-memory and --poll-memory may take 2.2 GiB, and there are 976 MiB of the machine -> --max-connections, or more memory"},
		{"a small container", map[string]string{"sys/fs/cgroup/memory.max": "536870912\n"}, nil,
			"warning memory: 499232 clients, --ring-memory, --receive-memory and --poll-memory may take 2.2 GiB, and there are 512 MiB of the container -> --max-connections, or more memory"},
		{"somaxconn", map[string]string{"proc/sys/net/core/somaxconn": "128\n"}, nil,
			"warning net.core.somaxconn: 128, want 4096 or more: connections that wait to be accepted, on each shard -> sysctl -w net.core.somaxconn=4096"},
		{"tcp_mem", map[string]string{"proc/sys/net/ipv4/tcp_mem": "100 200 300\n"}, nil,
			"warning net.ipv4.tcp_mem: 300, want 499232 or more: pages, of which each socket with bytes on their way takes one -> sysctl -w net.ipv4.tcp_mem='100 200 499232'"},
		{"tcp_mem for few clients", map[string]string{"proc/sys/net/ipv4/tcp_mem": "100 200 300\n"}, func(_ *Machine, c *config.Config) { c.MaxConnections = 1000 }, ""},
		{"ports", map[string]string{"proc/sys/net/ipv4/ip_local_port_range": "32768 60999\n"}, func(_ *Machine, c *config.Config) { c.TrustForwarded = []string{"127.0.0.1"} },
			"warning net.ipv4.ip_local_port_range: 28232 ports, and the proxy on this machine needs one for each of 499232 clients -> sysctl -w net.ipv4.ip_local_port_range='1024 65535', and more source addresses in the proxy for more clients"},
		{"ports without a proxy", map[string]string{"proc/sys/net/ipv4/ip_local_port_range": "32768 60999\n"}, nil, ""},
		{"no io_uring", nil, func(m *Machine, _ *config.Config) { m.URing = func() error { return errors.New("not permitted") } },
			"warning io_uring: not permitted: sends by write -> allow io_uring (seccomp profile, kernel.io_uring_disabled) for less CPU, or say --send write"},
		{"no io_uring, and it has to be", nil, func(m *Machine, c *config.Config) {
			m.URing, c.Send = func() error { return errors.New("not permitted") }, "uring"
		},
			"failure io_uring: not permitted, and --send uring insists on it -> --send auto, or allow io_uring (seccomp profile, kernel.io_uring_disabled)"},
		{"no io_uring, and not wanted", nil, func(m *Machine, c *config.Config) {
			m.URing, c.Send = func() error { return errors.New("not permitted") }, "write"
		}, ""},
		{"a full disk", nil, func(m *Machine, c *config.Config) {
			m.Space = func(string) (uint64, error) { return 5 << 30, nil }
			c.Store = "/"
			c.Namespaces = map[string]config.Namespace{"scores": {History: config.History{Bytes: 10 << 30}}}
		}, "warning --store: 5.0 GiB are free in /, and histories may take 10.0 GiB -> a larger disk, or less history"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Store = "memory"
			m := machine(t, test.files)
			if test.change != nil {
				test.change(&m, &cfg)
			}
			if got := bad(Examine(context.Background(), m, &cfg)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	authority := certstest.New(t)
	cert, key := authority.Files(authority.Server("push.example.com"))
	token, short, secret, nonsense := filepath.Join(dir, "token"), filepath.Join(dir, "short"), filepath.Join(dir, "secret"), filepath.Join(dir, "nonsense")
	write(t, token, strings.Repeat("t", 32), 0o600)
	write(t, short, "t", 0o600)
	write(t, secret, strings.Repeat("s", 32), 0o600)
	write(t, nonsense, "nonsense", 0o600)
	open := filepath.Join(dir, "open")
	write(t, open, strings.Repeat("t", 32), 0o644)
	missing := filepath.Join(dir, "missing")
	for _, test := range []struct {
		name   string
		change func(*Machine, *config.Config)
		want   string // what is not ok begins so
	}{
		{"all is well", func(m *Machine, c *config.Config) {
			m.Now = func() time.Time { return expiryOf(t, cert).Add(-30 * 24 * time.Hour) }
			c.TLSCert, c.TLSKey, c.AdminTokenFile, c.TokenSecretFile, c.Store = []string{cert}, []string{key}, token, secret, filepath.Join(dir, "not", "yet")
		}, ""},
		{"a certificate ends soon", func(m *Machine, c *config.Config) {
			c.TLSCert, c.TLSKey = []string{cert}, []string{key}
			m.Now = func() time.Time { return expiryOf(t, cert).Add(-100 * time.Hour) }
		}, "warning --tls-cert " + cert + ": expires on "},
		{"a certificate has ended", func(m *Machine, c *config.Config) {
			c.TLSCert, c.TLSKey = []string{cert}, []string{key}
			m.Now = func() time.Time { return expiryOf(t, cert).Add(time.Hour) }
		}, "failure --tls-cert " + cert + ": expired on "},
		{"a certificate is not there", func(_ *Machine, c *config.Config) { c.TLSCert, c.TLSKey = []string{missing}, []string{key} }, "failure --tls-cert: --tls-cert: open " + missing},
		{"a certificate for NATS is none", func(_ *Machine, c *config.Config) { c.NATSCert = nonsense }, "failure --nats-cert: " + nonsense + " holds no certificate"},
		{"a certificate for NATS is not there", func(_ *Machine, c *config.Config) { c.NATSCert = missing }, "failure --nats-cert: " + missing + ": no such file"},
		{"no token", func(_ *Machine, c *config.Config) { c.AdminTokenFile = missing }, "failure admin token: " + missing + ": no such file"},
		{"a short token", func(_ *Machine, c *config.Config) { c.AdminTokenFile = short }, "failure admin token: " + short + " has 1 characters"},
		{"everybody's token", func(_ *Machine, c *config.Config) { c.AdminTokenFile = open }, "warning admin token: " + open + " can be read by every user"},
		{"a short secret", func(_ *Machine, c *config.Config) { c.TokenSecretFile = short }, "failure token keys: "},
		{"no keys in it", func(_ *Machine, c *config.Config) { c.TokenKeys = []string{nonsense} }, "failure token keys: "},
		{"a store in a file", func(_ *Machine, c *config.Config) { c.Store = filepath.Join(nonsense, "store") }, "failure --store: " + nonsense},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Store = "memory"
			m := machine(t, nil)
			test.change(&m, &cfg)
			got := bad(Examine(context.Background(), m, &cfg))
			if (test.want == "") != (got == "") || !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n") {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestNATS(t *testing.T) {
	server := natstest.Start(t, natstest.Store(t.TempDir()))
	dead := natstest.Start(t)
	dead.Kill()
	small := natstest.Start(t, natstest.Config("max_payload: 4096"))
	kept := map[string]config.Namespace{"scores": {Delivery: config.DeliveryAll, History: config.History{Age: time.Hour}}}
	for _, test := range []struct {
		name, url  string
		namespaces map[string]config.Namespace
		want       string
	}{
		{"well", server.URL(), nil, ""},
		{"a stream to make", server.URL(), kept, ""},
		{"away", dead.URL(), nil, "failure NATS: cannot connect to NATS at " + dead.URL() + ": connection refused"},
		{"no JetStream", small.URL(), kept, "stream push_scores: "},
		{"small messages", small.URL(), nil, "warning NATS max_payload: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config.Default()
			cfg.NATS, cfg.Namespaces = []string{test.url}, test.namespaces
			if got := bad(Examine(context.Background(), machine(t, nil), &cfg)); (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// expiryOf is when a certificate ends.
func expiryOf(t *testing.T, file string) time.Time {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.NotAfter
}
