package monitoring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"

	"github.com/pushd/pushd/deploy/binary"
)

// exported is what the binary exports, with all that can be switched on.
var exported Exported

// program is the binary.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pushd-monitoring-")
	if err == nil {
		err = ask(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func ask(dir string) error {
	var err error
	if program, err = binary.Build("../..", dir); err != nil {
		return err
	}
	cert, key, secret := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "secret")
	if err := writeCertificate(cert, key); err != nil {
		return err
	}
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		return err
	}
	p, err := binary.Start(program, "--tls-cert="+cert, "--tls-key="+key, "--token-secret-file="+secret, "--trace-endpoint=http://127.0.0.1:1/v1/traces")
	if err != nil {
		return err
	}
	defer p.Stop()
	answer, err := p.Get("/metrics")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	exported, err = ReadExported(answer.Body)
	return err
}

func writeCertificate(cert, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600)
}

type target struct{ Expr, LegendFormat, RefID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []target
}

func readDashboard(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile("../grafana/pushd.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct{ Panels []panel }
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	return dashboard.Panels
}

// filled puts values for the dashboard's variables into a query.
var filled = strings.NewReplacer("$__rate_interval", "5m", `=~"$job"`, `=~".*"`, `=~"$instance"`, `=~".*"`)

var legend = regexp.MustCompile(`{{(\w+)}}`)

func TestDashboard(t *testing.T) {
	ids, cells, used := make(map[int]bool), make(map[[2]int]string), make(map[string]bool)
	for _, p := range readDashboard(t) {
		if ids[p.ID] {
			t.Errorf("%s: there is another panel %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q, or outside", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("%s has no description or nothing to show", p.Title)
		}
		for _, query := range p.Targets {
			expr := filled.Replace(query.Expr)
			for _, wrong := range append(exported.Check(expr), exported.CheckText(expr, legend.ReplaceAllString(query.LegendFormat, "$$labels.$1"))...) {
				t.Errorf("%s, %s: %s", p.Title, query.RefID, wrong)
			}
			for _, name := range regexp.MustCompile(`\b[a-z]+_[a-z_]+\b`).FindAllString(expr, -1) {
				used[name] = true
			}
		}
	}
	for _, name := range []string{"pushd_transport_connections", "pushd_handshakes_total", "pushd_deliveries_total", "pushd_fanout_seconds_bucket", "pushd_loop_lag_seconds_bucket",
		"pushd_behind", "pushd_gaps_total", "pushd_nats_dropped_total", "pushd_nats_connected", "pushd_history_reads_total", "process_resident_memory_bytes", "pushd_http_refusals_total", "pushd_auth_total"} {
		if !used[name] {
			t.Errorf("nothing shows %s", name)
		}
	}
}

type rules struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []struct {
			Alert       string            `json:"alert"`
			Expr        string            `json:"expr"`
			For         string            `json:"for"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var alerts rules
	if err := yaml.UnmarshalStrict(text, &alerts); err != nil {
		t.Fatal(err)
	}
	runbook := anchors(t, "../../docs/OPERATIONS.md")
	seen := make(map[string]bool)
	for _, group := range alerts.Groups {
		for _, a := range group.Rules {
			if seen[strings.ToLower(a.Alert)] {
				t.Errorf("%s is there twice", a.Alert)
			}
			seen[strings.ToLower(a.Alert)] = true
			for _, wrong := range append(exported.Check(a.Expr), exported.CheckText(a.Expr, a.Annotations["summary"])...) {
				t.Errorf("%s: %s", a.Alert, wrong)
			}
			if _, err := model.ParseDuration(a.For); a.For != "" && err != nil {
				t.Errorf("%s: %v", a.Alert, err)
			}
			if !slices.Contains([]string{"warning", "critical"}, a.Labels["severity"]) || a.Annotations["summary"] == "" {
				t.Errorf("%s: %v, %v", a.Alert, a.Labels, a.Annotations)
			}
			page, anchor, _ := strings.Cut(a.Annotations["runbook_url"], "#")
			if !strings.HasSuffix(page, "/docs/OPERATIONS.md") || anchor != strings.ToLower(a.Alert) || !runbook[anchor] {
				t.Errorf("%s: the runbook has no entry %s", a.Alert, a.Annotations["runbook_url"])
			}
		}
	}
	for anchor := range maps.Keys(runbook) {
		if strings.HasPrefix(anchor, "pushd") && !strings.Contains(anchor, "-") && !seen[anchor] {
			t.Errorf("the runbook has an entry %s, and there is no such alert", anchor)
		}
	}
}

// anchors are those of the headings of a page.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(text), -1) {
		found[strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-")] = true
	}
	return found
}

// The checks can fail.
func TestCheck(t *testing.T) {
	for query, want := range map[string]string{
		`pushd_connections`: "",
		`sum by (reason) (rate(pushd_gaps_total{reason="slow"}[5m]))`: "",
		`sum by (le) (rate(pushd_fanout_seconds_bucket[5m]))`:         "",
		`pushd_connektions`:                        "series pushd_connektions does not exist",
		`rate(pushd_gaps_total{reason="slow"}[5m]`: "unclosed left parenthesis",
		`pushd_gaps_total{reason="slo"}`:           `never has reason="slo"`,
		`pushd_gaps_total{reason=~"slow|slo"}`:     `never has reason="slo"`,
		`pushd_gaps_total{why="slow"}`:             "has no label why",
		`sum by (why) (pushd_gaps_total)`:          "by why",
		`pushd_fanout_seconds`:                     "does not exist",
		`pushd_fanout_seconds_sum{le="1"}`:         "has no label le",
	} {
		if got := strings.Join(exported.Check(query), "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	const byReason = `sum by (reason) (pushd_gaps_total)`
	for _, test := range []struct{ query, text, want string }{
		{byReason, "{{ $labels.reason }}", ""},
		{byReason, "{{ $labels.instance }}", "shows the label instance"},
		{`pushd_nodes < on (job) group_left () count by (job) (up)`, "{{ $labels.instance }}", ""},
		{`count by (job) (up) > on (job) group_right () pushd_nodes`, "{{ $labels.instance }}", ""},
		{`pushd_nodes < on (job) pushd_connections`, "{{ $labels.instance }}", "shows the label instance"},
		{byReason + ` or pushd_nodes`, "{{ $labels.instance }}", ""},
		{byReason + ` unless ignoring (reason) pushd_nodes`, "{{ $labels.instance }}", "shows the label instance"},
	} {
		if got := strings.Join(exported.CheckText(test.query, test.text), "; "); (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s of %s: %q, want %q", test.text, test.query, got, test.want)
		}
	}
}
