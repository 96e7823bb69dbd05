package metrics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
)

var update = flag.Bool("update", false, "write the files in testdata instead of comparing with them")

// fake is a backend with a fixed status.
type fake struct {
	status control.Status
	err    error
	hangs  error // of Ready
}

func (f *fake) Ready(context.Context) error { return f.hangs }

func (f *fake) Status(context.Context) (control.Status, error) { return f.status, f.err }

// fullStatus reads the status that has something in every field.
func fullStatus(t *testing.T) (s control.Status) {
	t.Helper()
	text, err := os.ReadFile("../testdata/status.json")
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func noHosts() []string { return nil }

func get(t *testing.T, handler http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "127.0.0.1:9417"
	handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestMetrics compares all that is ours in a scrape: names, help, types, labels.
func TestMetrics(t *testing.T) {
	m := New("1.2.3")
	m.ObserveDecision(30 * time.Microsecond)
	m.ObserveDecision(2 * time.Second)
	m.PassDone("corp", "full", control.ResultOK)
	m.PassDone("corp", "incremental", control.ResultFailed)
	m.PassDone("corp", "incremental", control.ResultFailed)
	m.ObserveLag("corp", 3*time.Second)
	m.ObserveLag("corp", -3*time.Second)
	code, body := get(t, m.Handler(&fake{status: fullStatus(t)}, noHosts, nil), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	var ours []string
	for line := range strings.Lines(body) {
		if strings.Contains(line, "rcpt_milter_") && !strings.Contains(line, "build_info{") {
			ours = append(ours, line)
		}
	}
	got := []byte(strings.Join(ours, ""))
	const golden = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %v (-want +got):\n%s", golden, err, cmp.Diff(string(want), string(got)))
	}
	for _, want := range []string{`rcpt_milter_build_info{go="go`, `version="1.2.3"} 1`, "go_goroutines ",
		"process_open_fds "} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}

// TestMetricsOfAcceptFiles: a file that is named twice, or has an odd name, spoils no scrape.
func TestMetricsOfAcceptFiles(t *testing.T) {
	s := fullStatus(t)
	s.AcceptFiles = append(s.AcceptFiles, s.AcceptFiles[0], control.AcceptFile{File: "/etc/\xff\"x\n", Entries: 2})
	code, body := get(t, New("1.2.3").Handler(&fake{status: s}, noHosts, nil), "/metrics")
	for _, want := range []string{`accept_file_failing{file="/etc/postfix/relay_recipients"} 1`,
		"accept_file_failing{file=\"/etc/\ufffd\\\"x\\n\"} 0", "accept_file_entries{file=\"/etc/\ufffd\\\"x\\n\"} 2",
		`accept_file_stale{file="/etc/postfix/relay_recipients"} 1`,
		"accept_file_stale{file=\"/etc/\ufffd\\\"x\\n\"} 0"} {
		if code != http.StatusOK || strings.Count(body, want) != 1 {
			t.Errorf("%d, and no %s in\n%s", code, want, body)
		}
	}
}

// TestMetricsWithoutStatus: the rest is still given.
func TestMetricsWithoutStatus(t *testing.T) {
	code, body := get(t, New("1.2.3").Handler(&fake{err: errors.New("no")}, noHosts, nil), "/metrics")
	if code != http.StatusOK || !strings.Contains(body, "rcpt_milter_build_info") ||
		strings.Contains(body, "rcpt_milter_sessions") {
		t.Errorf("%d\n%s", code, body)
	}
}

func TestHealth(t *testing.T) {
	state := func(s control.State) *fake { return &fake{status: control.Status{State: s}} }
	for _, c := range []struct {
		backend *fake
		path    string
		code    int
		want    string
	}{
		{state(control.NotReady), "/healthz", 200, "ok\n"},
		{state(control.Fresh), "/readyz", 200, "ready: the index is fresh\n"},
		{state(control.Late), "/readyz", 200, "ready: the index is late\n"},
		{state(control.Stale), "/readyz", 200, "ready: the index is stale\n"},
		{state(control.NotReady), "/readyz", 503, "not ready: a directory has not been read in full yet, or not " +
			"since its rules changed; unknown recipients get 451 now (when_not_ready: tempfail)\n"},
		{&fake{status: control.Status{State: control.NotReady, WhenNotReady: "accept"}}, "/readyz", 503,
			"not ready: a " +
				"directory has not been read in full yet, or not since its rules changed; unknown recipients are " +
				"accepted now (when_not_ready: accept)\n"},
		{&fake{status: control.Status{State: control.Fresh, StoreState: control.StoreFailed, StoreError: "I/O error"}},
			"/readyz", 503, "not ready: the index cannot be read, and its recipients get 451: I/O error\n"},
		{&fake{status: control.Status{State: control.Fresh, StoreState: control.StoreDamaged}}, "/readyz", 200,
			"ready: the index is fresh\n"},
		{&fake{err: errors.New("closed")}, "/readyz", 503, "not ready: closed\n"},
		{&fake{hangs: errors.New("no answer")}, "/readyz", 503, "not ready: no answer\n"},
		{&fake{hangs: errors.New("no answer")}, "/healthz", 200, "ok\n"},
		{&fake{status: control.Status{State: control.Fresh, Listeners: []control.ListenerStatus{
			{Name: control.ListenerMilter, Address: "unix:/run/m.sock", Trouble: "its file is gone"}}}}, "/readyz", 503,
			"not ready: Postfix cannot connect, so mail is deferred: unix:/run/m.sock: its file is gone\n"},
		{&fake{status: control.Status{State: control.Fresh, Listeners: []control.ListenerStatus{
			{Name: control.ListenerMetrics, Trouble: "taken"}}}}, "/readyz", 200, "ready: the index is fresh\n"},
		{state(control.Fresh), "/", 404, ""},
		{state(control.Fresh), "/v1/status", 404, ""},
	} {
		code, body := get(t, New("").Handler(c.backend, noHosts, nil), c.path)
		if code != c.code || c.want != "" && body != c.want {
			t.Errorf("%s: %d %q, want %d %q", c.path, code, body, c.code, c.want)
		}
	}
}

// TestForeignNames: a web page under a name that leads here reads nothing (DNS rebinding).
func TestForeignNames(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	handler := New("1").Handler(&fake{status: control.Status{State: control.Fresh}},
		func() []string { return []string{"mx1.example.com"} }, nil)
	for host, want := range map[string]int{
		"localhost:9417": 200, "127.0.0.1:9417": 200, "[::1]:9417": 200, "192.0.2.1": 200, own + ":9417": 200,
		"MX1.example.com.:9417": 200,
		"":                      200, // no browser sends this, but HTTP/1.0 health checks do
		"evil.example:9417":     421, "mx1.example.com.evil.example": 421, "127.0.0.1.evil.example": 421,
	} {
		t.Run(host, func(t *testing.T) {
			for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
				r := httptest.NewRequest("GET", path, nil)
				r.Host = host
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("GET %s from %q: %d, want %d", path, host, w.Code, want)
				}
				if want == 421 && (strings.Contains(w.Body.String(), "rcpt_milter") ||
					!strings.Contains(w.Body.String(), "page.hosts")) {
					t.Errorf("GET %s from %q says %s", path, host, w.Body)
				}
			}
		})
	}
}
