package control

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequests: whatever request a client sends, no handler panics, the answer is JSON in lines, and
// a request that the server cannot read reaches no backend.
func FuzzRequests(f *testing.F) {
	for _, r := range [][3]string{
		{"GET", "/v1/status", ""}, {"GET", "/v1/version?x=%zz", ""}, {"GET", "/v1/nothing", ""},
		{"PUT", "//v1/../v1/status", ""},
		{"GET", "/v1/lookup?address=ann%40corp.example&client=192.0.2.1&authenticated=true", ""},
		{"GET", "/v1/lookup?address=%00&at=2026-01-31T23:59:59Z&authenticated=maybe", ""},
		{"POST", "/v1/sync", `{"full": true, "wait": true}`}, {"POST", "/v1/sync", `{"full": 1}`},
		{"POST", "/v1/sync", `[`},
		{"GET", "/v1/journal?since=yesterday&pass=-1", ""}, {"GET", "/v1/report?since=2026-01-31T23:59:59Z&limit=-3",
			""},
		{"POST", "/v1/compare", `{"directory": "corp"}`}, {"POST", "/v1/export", `{"unknown": null}`},
		{"POST", "/v1/removals/approve", `{"directory": "corp", "up_to": 18446744073709551616}`},
		{"POST", "/v1/removals/discard", "{}{}"}, {"GET", "/v1/removals?directory=corp", ""},
		{"POST", "/v1/reload", "x"},
	} {
		f.Add(r[0], r[1], r[2])
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		at, err := url.Parse(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return // net/http rejects it
		}
		var log bytes.Buffer
		reached := &fake{
			sync:    func(_ context.Context, _ SyncQuery, tell func(SyncEvent)) error { tell(SyncEvent{}); return nil },
			journal: func(_ JournalQuery, visit func(JournalRow) error) error { return visit(JournalRow{}) },
			export: func(_ context.Context, _ ExportQuery, tell func(ExportEvent) error) error {
				return tell(ExportEvent{})
			},
			compare: func(_ context.Context, _ CompareQuery, tell func(CompareEvent) error) error {
				return tell(CompareEvent{})
			},
			report: func(q ReportQuery) (Report, error) {
				if q.Limit < 0 {
					t.Errorf("a report of %d rows", q.Limit)
				}
				return Report{}, nil
			},
			settled: func(_ string, _ RemovalsQuery, tell func(RemovalsDone)) error {
				tell(RemovalsDone{})
				return nil
			},
		}
		server := NewServer(reached, "1.2.3", slog.New(slog.NewTextHandler(&log, nil)))
		answer := httptest.NewRecorder()
		server.http.Handler.ServeHTTP(answer, &http.Request{Method: method, URL: at, Host: "control",
			Header: http.Header{}, Body: readCloser{strings.NewReader(body)}, RequestURI: target})
		if strings.Contains(log.String(), "panic") {
			t.Fatalf("%s %s %q: %s", method, target, body, log.String())
		}
		if code := answer.Code; code != 200 && code != 400 && code != 404 && code != 301 && code != 307 && code != 405 {
			t.Errorf("%s %s %q: status %d", method, target, body, code)
		}
		for line := range strings.Lines(answer.Body.String()) {
			if strings.HasPrefix(answer.Header().Get("Content-Type"), "application/") && !json.Valid([]byte(line)) {
				t.Errorf("%s %s %q: the answer has the line %q", method, target, body, line)
			}
		}
	})
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
