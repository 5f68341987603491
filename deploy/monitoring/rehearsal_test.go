package monitoring

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/deploy/binary"
	"github.com/pushd/pushd/deploy/tooltest"
)

// faster makes a second of a minute: how long an alert waits, and looks back.
var faster = strings.NewReplacer("m]", "s]", "offset 10m", "offset 10s")

const (
	apiKey     = "pushd_0123456789012345678901234567890123456789012345678901234567890123"
	adminToken = "0123456789abcdef0123456789abcdef"
)

// open puts NATS, three nodes and a Prometheus on the stage.
func open(t *testing.T) *stage {
	t.Helper()
	if os.Getenv("PUSHD_SOAK") == "" {
		t.Skip("it takes half a minute: PUSHD_SOAK=1, or make soak")
	}
	prometheus := tooltest.Find(t, "prometheus", "apt-get install prometheus")
	s := &stage{t: t, dir: t.TempDir()}
	nats, err := binary.BuildNATS("../..", s.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.natsAddr = s.freeAddr()
	s.nats = s.begin(nats, "-c", s.file("nats.conf", fmt.Sprintf(`listen: %q
jetstream { store_dir: %q }
authorization { users = [
  { user: all, password: all }
  { user: few, password: few, permissions: { publish: { deny: ["push._pushd.>"] }, subscribe: [">"] } }
] }
`, s.natsAddr, filepath.Join(s.dir, "store"))))
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.natsAddr); err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("nats-server does not start")
		}
	}

	cert, key, token := filepath.Join(s.dir, "tls.crt"), filepath.Join(s.dir, "tls.key"), s.file("token", adminToken)
	if err := writeCertificate(cert, key); err != nil { // for an hour
		t.Fatal(err)
	}
	history := s.file("history.yaml", "namespaces: {scores: {delivery: all, history: {age: 1h}}}\n")
	guarded := s.file("guarded.yaml", fmt.Sprintf("api_keys: [{name: bob, hash: 'sha256:%x', subscribe: [allowed.>]}]\n", sha256.Sum256([]byte(apiKey))))
	all := "--nats=nats://all:all@" + s.natsAddr
	s.serve(program, "plain", all, "--config="+history, "--max-connections=40", "--ring-messages=16", "--max-message=16KiB", "--unlimited=127.0.0.0/8")
	s.serve(program, "guarded", all, "--config="+guarded, "--tls-cert="+cert, "--tls-key="+key, "--admin-token-file="+token,
		"--jwks-url=http://"+s.freeAddr()+"/keys", "--authorize=nobody.answers", "--authorize-timeout=100ms")
	s.serve(program, "denied", "--nats=nats://few:few@"+s.natsAddr)
	s.targets(s.nodes...)

	rules, err := os.ReadFile("../prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.file("alerts.yaml", regexp.MustCompile(`for: \d+m`).ReplaceAllString(faster.Replace(string(rules)), "for: 1s"))
	s.prometheus = s.freeAddr()
	s.begin(prometheus, "--config.file="+s.file("prometheus.yml", fmt.Sprintf(`global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: pushd
    authorization: {credentials_file: %s}
    file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]
`, token)), "--storage.tsdb.path="+filepath.Join(s.dir, "tsdb"), "--web.listen-address="+s.prometheus, "--log.level=warn")
	return s
}

// TestRehearsal provokes the alerts on real nodes, and sees a real Prometheus fire
// them. Two are left to promtool: PushdLosesMessages, since what makes the hub slower
// than NATS depends on the machine, and PushdStoresSlowly, which wants a NATS that
// takes publications and has no leader to store them.
func TestRehearsal(t *testing.T) {
	s := open(t)
	plain, guarded, denied := s.nodes[0], s.nodes[1], s.nodes[2]

	// What is wrong from the start, and nothing else.
	s.wantFiring("PushdDeniedByNATS denied", nil)
	s.wantFiring("PushdNodesApart plain", nil)
	s.wantFiring("PushdCertificateExpires guarded", nil)
	s.wantFiring("PushdKeysAway guarded", nil)
	s.wantQuiet(plain, "PushdNodesApart plain")

	// Clients: slow ones, then too many.
	var slow []net.Conn
	for range 38 {
		c, status := s.connect(plain, "topic=stocks.>&topic=scores.a", false)
		if !strings.HasPrefix(status, "101") {
			t.Fatalf("a client of 40 is answered %s", status)
		}
		slow = append(slow, c)
	}
	s.wantFiring("PushdNearlyFull plain", nil)
	s.wantFiring("PushdClientsTooSlow plain", func() { s.flood(slow[:8]) })
	s.wantFiring("PushdSendsClientsAway plain", func() {
		for range 20 {
			s.connect(plain, "topic=stocks.>", false)
		}
	})
	s.wantFiring("PushdOutOfFiles plain", func() { s.outOfFiles(plain) })
	s.wantFiring("PushdLoopsLate plain", func() { pause(t, plain.Signal, 450*time.Millisecond) })
	s.wantFiring("PushdIgnoresMessages plain", func() { s.say(publication("push.stocks.LARGE", strings.Repeat("x", 20<<10))) })

	// Credentials and operators.
	s.wantFiring("PushdNobodyDecides guarded", func() { s.connect(guarded, "topic=secret.x&token="+apiKey, true) })
	s.wantFiring("PushdAdminRefused guarded", func() { _, _ = guarded.Get("/metrics") }) // it is to be refused
	drain, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+plain.Admin+"/nodes/guarded/drain?window=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := http.DefaultClient.Do(drain); err != nil || response.StatusCode != http.StatusAccepted {
		t.Fatalf("a drain: %v, %v", response, err)
	}
	s.wantFiring("PushdStaysDrained guarded", nil)

	// JetStream, and NATS as a whole.
	s.say(publication("push.scores.a", "1"), "PUB $JS.API.STREAM.DELETE.push_scores a.reply 0\r\n")
	s.wantFiring("PushdStreamBeganAnew plain", nil)
	if err := s.nats.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.wantFiring("PushdWithoutNATS plain", nil)
	s.wantFiring("PushdHistoryFails plain", func() {
		if response, err := http.Get("http://" + plain.Listen + "/history/scores.a"); err == nil {
			response.Body.Close() // it fails, which is what is wanted
		}
	})

	// A node is lost, and then all.
	if err := denied.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.wantFiring("PushdDown denied", nil)
	s.targets()
	s.wantFiring("PushdAbsent", nil)
}

// flood publishes more than clients take who read a little at a time.
func (s *stage) flood(slow []net.Conn) {
	lines := make([]string, 200)
	for i := range lines {
		lines[i] = publication("push.stocks.AAPL", strings.Repeat("x", 8<<10))
	}
	for range 3 {
		s.say(lines...)
	}
	var reading sync.WaitGroup
	for _, c := range slow {
		reading.Go(func() {
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = io.Copy(io.Discard, c) // until the deadline
		})
	}
	reading.Wait()
}

// outOfFiles takes the node's file descriptors away while somebody connects.
func (s *stage) outOfFiles(n *node) {
	var was unix.Rlimit
	if err := unix.Prlimit(n.PID(), unix.RLIMIT_NOFILE, nil, &was); err != nil {
		s.t.Fatal(err)
	}
	if err := unix.Prlimit(n.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 16, Max: was.Max}, nil); err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := unix.Prlimit(n.PID(), unix.RLIMIT_NOFILE, &was, nil); err != nil {
			s.t.Fatal(err)
		}
	}()
	s.connect(n, "topic=stocks.>", false)
}
