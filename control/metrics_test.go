package control

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, handler http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

// TestMetrics compares all that is ours in a scrape: names, help, types, labels.
func TestMetrics(t *testing.T) {
	m := NewMetrics("1.2.3")
	m.ObserveDecision(30 * time.Microsecond)
	m.ObserveDecision(2 * time.Second)
	m.PassDone("corp", "full", ResultOK)
	m.PassDone("corp", "incremental", ResultFailed)
	m.PassDone("corp", "incremental", ResultFailed)
	m.ObserveLag("corp", 3*time.Second)
	m.ObserveLag("corp", -3*time.Second)
	code, body := get(t, m.Handler(&fake{status: fullStatus()}, nil, nil), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	var ours []string
	for line := range strings.Lines(body) {
		if strings.Contains(line, "rcpt_milter_") && !strings.Contains(line, "build_info{") {
			ours = append(ours, line)
		}
	}
	compare(t, "metrics.txt", []byte(strings.Join(ours, "")))
	for _, want := range []string{`rcpt_milter_build_info{go="go`, `version="1.2.3"} 1`, "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}

// TestMetricsOfAcceptFiles: a file that is named twice, or has an odd name, spoils no scrape.
func TestMetricsOfAcceptFiles(t *testing.T) {
	s := fullStatus()
	s.AcceptFiles = append(s.AcceptFiles, s.AcceptFiles[0], AcceptFile{File: "/etc/\xff\"x\n", Entries: 2})
	code, body := get(t, NewMetrics("1.2.3").Handler(&fake{status: s}, nil, nil), "/metrics")
	for _, want := range []string{`accept_file_failing{file="/etc/postfix/relay_recipients"} 1`, "accept_file_failing{file=\"/etc/\ufffd\\\"x\\n\"} 0", "accept_file_entries{file=\"/etc/\ufffd\\\"x\\n\"} 2"} {
		if code != http.StatusOK || strings.Count(body, want) != 1 {
			t.Errorf("%d, and no %s in\n%s", code, want, body)
		}
	}
}

// TestMetricsWithoutStatus: the rest is still given.
func TestMetricsWithoutStatus(t *testing.T) {
	code, body := get(t, NewMetrics("1.2.3").Handler(&fake{err: errors.New("no")}, nil, nil), "/metrics")
	if code != http.StatusOK || !strings.Contains(body, "rcpt_milter_build_info") || strings.Contains(body, "rcpt_milter_sessions") {
		t.Errorf("%d\n%s", code, body)
	}
}

func TestHealth(t *testing.T) {
	state := func(s State) *fake { return &fake{status: Status{State: s}} }
	for _, c := range []struct {
		backend *fake
		path    string
		code    int
		want    string
	}{
		{state(NotReady), "/healthz", 200, "ok\n"},
		{state(Fresh), "/readyz", 200, "ready: the index is fresh\n"},
		{state(Late), "/readyz", 200, "ready: the index is late\n"},
		{state(Stale), "/readyz", 200, "ready: the index is stale\n"},
		{state(NotReady), "/readyz", 503, "not ready: a directory has not been read in full yet; recipients that are not in the index get 451\n"},
		{&fake{err: errors.New("closed")}, "/readyz", 503, "not ready: closed\n"},
		{state(Fresh), "/", 404, ""},
		{state(Fresh), "/v1/status", 404, ""},
	} {
		code, body := get(t, NewMetrics("").Handler(c.backend, nil, nil), c.path)
		if code != c.code || c.want != "" && body != c.want {
			t.Errorf("%s: %d %q, want %d %q", c.path, code, body, c.code, c.want)
		}
	}
}
