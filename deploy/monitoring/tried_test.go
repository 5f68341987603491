package monitoring

import (
	"os"
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
