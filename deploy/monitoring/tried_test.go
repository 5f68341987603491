package monitoring

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Every alert is seen to fire, and not to fire, in what promtool runs (make deploy-check).
func TestAlertsTried(t *testing.T) {
	var alerts rules
	var tried struct {
		RuleFiles []string `json:"rule_files"`
		Tests     []struct {
			AlertRuleTest []struct {
				Alertname string `json:"alertname"`
				ExpAlerts []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	for file, into := range map[string]any{"../prometheus/alerts.yaml": &alerts, "../prometheus/alerts_test.yaml": &tried} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, test := range tried.Tests {
		for _, at := range test.AlertRuleTest {
			if len(at.ExpAlerts) > 0 {
				fires[at.Alertname] = true
			} else {
				quiet[at.Alertname] = true
			}
		}
	}
	for _, group := range alerts.Groups {
		for _, a := range group.Rules {
			if !fires[a.Alert] || !quiet[a.Alert] {
				t.Errorf("%s: a test in which it fires: %t; in which it does not: %t", a.Alert, fires[a.Alert], quiet[a.Alert])
			}
		}
	}
	if len(tried.RuleFiles) != 1 || tried.RuleFiles[0] != "alerts.yaml" {
		t.Errorf("the tests are of %v", tried.RuleFiles)
	}
}

// What the runbook has an operator look at is there.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, name := range regexp.MustCompile("`((?:pushd|process)_[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		if named++; exported[name[1]] == nil {
			t.Errorf("the runbook names %s, which is not exported", name[1])
		}
	}
	if named < 5 {
		t.Errorf("only %d names were found", named)
	}
	flags, err := exec.Command(program, "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"drain", "nodes", "doctor", "publish"} {
		more, err := exec.Command(program, command, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		flags = append(flags, more...)
	}
	for _, name := range regexp.MustCompile("`(--[a-z-]+)").FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(string(flags), " "+name[1]) {
			t.Errorf("the runbook names %s, which pushd does not have", name[1])
		}
	}
}
