package testenv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// scrapeConfig makes Prometheus scrape the harness's daemon every second.
const scrapeConfig = `global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [/rules/quick.yml]
scrape_configs:
  - job_name: rcpt-milter
    static_configs: [{targets: ["rcpt-milter:9417"]}]
`

// TestPrometheus: Debian's Prometheus reads the metrics without complaint, promtool accepts
// the rules and their tests, and an alert fires while the domain controller is down.
func TestPrometheus(t *testing.T) {
	e := require(t)
	e.join(testenv.Prometheus)
	for _, name := range []string{"rcpt-milter.rules.yml", "rcpt-milter.rules_test.yml",
		"rcpt-milter.refusals_test.yml"} {
		e.guestFile(testenv.Prometheus, "/rules/"+name, e.deployed("prometheus/"+name))
	}
	// The rules wait for minutes; a test cannot.
	quick := regexp.MustCompile(`for: \d+[mh]`).ReplaceAllString(e.deployed("prometheus/rcpt-milter.rules.yml"),
		"for: 1s")
	e.guestFile(testenv.Prometheus, "/rules/quick.yml", quick)
	e.guestFile(testenv.Prometheus, "/etc/prometheus/prometheus.yml", scrapeConfig)

	e.inGuest(testenv.Prometheus, "promtool", "check", "rules", "/rules/rcpt-milter.rules.yml")
	e.inGuest(testenv.Prometheus, "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
	e.inGuest(testenv.Prometheus, "promtool", "test", "rules", "/rules/rcpt-milter.rules_test.yml",
		"/rules/rcpt-milter.refusals_test.yml")
	out, err := e.ExecInput(e.ctx, testenv.Prometheus, e.metrics(), "promtool", "check", "metrics")
	e.must(err)
	if ours := linesWith(out.Stdout+out.Stderr, "rcpt_milter_"); ours != "" {
		t.Errorf("promtool check metrics says\n%s", ours)
	}

	e.inGuest(testenv.Prometheus, "sh", "-c", "setsid prometheus --config.file=/etc/prometheus/prometheus.yml "+
		"--storage.tsdb.path=/tmp/data > /tmp/log 2>&1 &")
	e.firing(`up{job="rcpt-milter"} == 1`)
	e.firing(`rcpt_milter_directory_state{state="fresh"} == 1`)
	e.dashboard()
	// Before the first scrape, the alert for an absent daemon may fire.
	e.firing(`absent(ALERTS{alertstate="firing", severity!="info"})`)
	const alert = `ALERTS{alertname="RcptMilterDirectoryFailing", alertstate="firing", directory="corp"}`
	e.must(e.Stop(e.ctx, testenv.DC))
	e.firing(alert)
	e.must(e.Start(e.ctx, testenv.DC))
	e.firing(`absent(` + alert + `)`)
}

// dashboard runs the queries of Grafana's panels. Every query has a result, except rates of
// events that may not have happened.
func (e *edge) dashboard() {
	e.t.Helper()
	asked := 0
	for _, m := range regexp.MustCompile(`"expr": ("(?:[^"\\]|\\.)*")`).FindAllStringSubmatch(
		e.deployed("grafana/rcpt-milter.json"), -1) {
		var expression string
		e.must(json.Unmarshal([]byte(m[1]), &expression))
		expression = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$directory",
			".*").Replace(expression)
		asked++
		if regexp.MustCompile(`[>!]=? ?0$|histogram_quantile|accept_file`).MatchString(expression) {
			_, err := e.tryQuery(e.ctx, expression)
			e.must(err)
			continue
		}
		e.firing(expression)
	}
	if asked < 20 {
		e.t.Errorf("the dashboard asks only %d questions", asked)
	}
}

// join starts a service beside the harness until the test ends.
func (e *edge) join(service string) {
	e.t.Helper()
	err := e.Join(e.ctx, service)
	if errors.Is(err, testenv.ErrNoImages) && os.Getenv(testenv.EnvMode) != "require" {
		e.t.Skipf("END-TO-END TEST SKIPPED: %v", err)
	}
	e.t.Cleanup(func() {
		if err := e.Leave(context.WithoutCancel(e.ctx), service); err != nil {
			e.t.Error(err)
		}
	})
	e.must(err)
}

// deployed returns a file below deploy.
func (e *edge) deployed(name string) string {
	e.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "deploy", name))
	e.must(err)
	return string(text)
}

// guestFile puts a file into a service, readable for all users.
func (e *edge) guestFile(guest, name, text string) {
	e.t.Helper()
	e.must(e.WriteFile(e.ctx, guest, name, text))
	e.inGuest(guest, "chmod", "a+r", name)
}

// inGuest runs a command that must succeed, and returns its output.
func (e *edge) inGuest(guest string, argv ...string) string {
	e.t.Helper()
	out, err := e.Exec(e.ctx, guest, argv...)
	e.must(err)
	if out.Status != 0 {
		e.t.Fatalf("%s: %s: exit status %d\n%s%s", guest, strings.Join(argv, " "), out.Status, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// metrics returns the metrics of the daemon.
func (e *edge) metrics() string {
	e.t.Helper()
	address, err := e.Address(e.ctx, testenv.Milter, 9417)
	e.must(err)
	return e.get("http://" + address + "/metrics")
}

func (e *edge) get(url string) string {
	e.t.Helper()
	text, err := fetch(e.ctx, url)
	e.must(err)
	return text
}

func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, response.Status, text)
	}
	return string(text), err
}

// tryQuery queries Prometheus, and returns the labels of the results.
func (e *edge) tryQuery(ctx context.Context, expression string) ([]map[string]string, error) {
	address, err := e.Address(ctx, testenv.Prometheus, 9090)
	if err != nil {
		return nil, err
	}
	text, err := fetch(ctx, "http://"+address+"/api/v1/query?query="+url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, err
	}
	var found []map[string]string
	for _, r := range answer.Data.Result {
		found = append(found, r.Metric)
	}
	return found, nil
}

// firing waits until a query has a result.
func (e *edge) firing(expression string) {
	e.t.Helper()
	start := time.Now()
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		found, err := e.tryQuery(ctx, expression)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("Prometheus does not find %s", expression)
		}
		return err
	}))
	e.t.Logf("%s after %s", expression, time.Since(start).Round(time.Second/10))
}

// linesWith returns the lines of a text that contain a part.
func linesWith(text, part string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}
