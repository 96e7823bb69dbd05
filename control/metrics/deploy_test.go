package metrics

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"rcpt-milter/control"
)

// scrape is what Prometheus gets when there is something of everything.
func scrape(t *testing.T) string {
	t.Helper()
	m := New("1.2.3")
	m.PassDone("corp", "full", control.ResultOK)
	m.ObserveLag("corp", 0)
	_, body := get(t, m.Handler(&fake{status: fullStatus(t)}, noHosts, nil), "/metrics")
	return body
}

// scraped are the names of the metrics in a scrape.
func scraped(t *testing.T) map[string]bool {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(scrape(t), -1) {
		names[m[1]] = true
	}
	return names
}

func TestMetricsLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "rcpt_milter_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// metricName matches the name of a metric.
var metricName = regexp.MustCompile(`\b(rcpt_milter_[a-z_]+|process_[a-z_]+_(?:bytes|seconds))\b`)

// named finds metrics in a text, histograms by their own name.
func named(text string) []string {
	found := map[string]bool{}
	for _, name := range metricName.FindAllString(text, -1) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		found[name] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// TestMetricsNamed: whatever names a metric names one that there is.
func TestMetricsNamed(t *testing.T) {
	there := scraped(t)
	for _, file := range []string{"prometheus/rcpt-milter.rules.yml", "prometheus/rcpt-milter.rules_test.yml",
		"prometheus/rcpt-milter.refusals_test.yml", "grafana/rcpt-milter.json", "../docs/monitoring.md"} {
		text, err := os.ReadFile("../../deploy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		names := named(string(text))
		if len(names) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range names {
			if !there[name] {
				t.Errorf("%s names %s, which is no metric", file, name)
			}
		}
	}
}

// TestMonitoringDocumented: docs/monitoring.md has every metric, every field of status
// and every alert.
func TestMonitoringDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(text)
	for name := range scraped(t) {
		if strings.HasPrefix(name, "rcpt_milter_") && !strings.Contains(document, "`"+name) {
			t.Errorf("the metric %s is not documented", name)
		}
	}
	for _, field := range fieldsOf(t, fullStatus(t)) {
		if !strings.Contains(document, "`"+field+"`") {
			t.Errorf("the field %s of status is not documented", field)
		}
	}
	rules, err := os.ReadFile("../../deploy/prometheus/rcpt-milter.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range regexp.MustCompile(`- alert: (\S+)`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(document, "`"+alert[1]+"`") {
			t.Errorf("the alert %s is not documented", alert[1])
		}
	}
}

// fieldsOf are the names of the fields of a status, and of its directories and passes.
func fieldsOf(t *testing.T, s control.Status) []string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	directory := whole["directories"].([]any)[0].(map[string]any)
	names := slices.Collect(maps.Keys(whole))
	names = slices.AppendSeq(names, maps.Keys(directory))
	return slices.AppendSeq(names, maps.Keys(directory["last_full"].(map[string]any)))
}

// TestDashboard: Grafana's file is one that it can read, and every panel asks something.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/rcpt-milter.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title  string
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q: id %d twice, or wider than the page", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || !strings.Contains(p.Targets[0].Expr, "instance=~")) {
			t.Errorf("panel %q asks %v", p.Title, p.Targets)
		}
	}
	if len(board.Panels) < 10 {
		t.Errorf("only %d panels", len(board.Panels))
	}
}
