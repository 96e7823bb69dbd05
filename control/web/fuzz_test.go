package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

// witness counts the requests that reach a backend, and requires what each of them may carry.
type witness struct {
	t              *testing.T
	whole, tenants int
}

func (w *witness) Status(context.Context) (control.Status, error) {
	w.whole++
	return control.Status{}, nil
}

func (w *witness) Lookup(_ context.Context, q control.LookupQuery) (control.LookupAnswer, error) {
	w.whole++
	return control.LookupAnswer{Address: w.address(q.Address)}, nil
}

func (w *witness) Report(context.Context, control.ReportQuery) (control.Report, error) {
	w.whole++
	return control.Report{}, nil
}

func (w *witness) ServeHTTP(http.ResponseWriter, *http.Request) { w.whole++ }

func (w *witness) TenantStatus(context.Context, control.Scope) (control.TenantStatus, error) {
	w.tenants++
	return control.TenantStatus{}, nil
}

func (w *witness) TenantLookup(_ context.Context, _ control.Scope, text string) (control.TenantLookup, error) {
	w.tenants++
	return control.TenantLookup{Address: w.address(text)}, nil
}

func (w *witness) TenantReport(
	_ context.Context, _ control.Scope, q control.ReportQuery,
) (control.TenantReport, error) {
	if w.tenants++; q.Limit < 0 {
		w.t.Errorf("a report of %d rows", q.Limit)
	}
	return control.TenantReport{}, nil
}

func (w *witness) address(text string) string {
	if text == "" || len(text) > maxQuery {
		w.t.Errorf("a lookup of %d bytes", len(text))
	}
	return text
}

// FuzzPage: whatever a client sends, no handler panics, JSON is JSON, no markup of the request is in the
// page, and only a token reaches a backend: that of a tenant never the one that sees everything.
func FuzzPage(f *testing.F) {
	for _, target := range []string{"/", "/?refresh", "/lookup?address=ann%40corp.example",
		"/lookup?address=%3Ci%3E%00%ff", "/lookup?address=" + strings.Repeat("a", maxQuery+1), "/v1/status",
		"/v1/lookup?address=%20a%20", "/v1/report?since=2026-01-31T23:59:59Z&limit=-3", "/v1/report?limit=x",
		"//v1/../v1/status", "/style.css", "/icon.svg", "/v1/sync"} {
		for _, secret := range []string{"Bearer all", "bearer  some ", "Basic eDphbGw=", "Basic :", "Bearer none", ""} {
			f.Add("GET", target, "localhost:9417", secret)
		}
	}
	f.Add("POST", "/lookup", "[::1]", "Bearer all")
	f.Add("GET", "/", "relay.example.com.", "Bearer some")
	f.Add("GET", "/", "evil.example:80:80", "Bearer all")
	tokens := []Token{{Sum: sha256.Sum256([]byte("all")), All: true}, {Sum: sha256.Sum256([]byte("some"))}}
	f.Fuzz(func(t *testing.T, method, target, host, secret string) {
		at, err := url.Parse(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return // net/http rejects it
		}
		var log bytes.Buffer
		reached := &witness{t: t}
		page := New(Config{On: func() bool { return true },
			Hosts:      func() []string { return []string{"relay.example.com"} },
			NeedsToken: func() bool { return true }, Tokens: func() ([]Token, error) { return tokens, nil },
			Tenants: reached, API: reached, Now: func() time.Time { return pageNow }},
			reached, &History{}, slog.New(slog.NewTextHandler(&log, nil)))
		answer := httptest.NewRecorder()
		request := &http.Request{Method: method, URL: at, Host: host, Header: http.Header{"Authorization": {secret}},
			RequestURI: target, Body: http.NoBody}
		page.ServeHTTP(answer, request)
		token, _ := findToken(tokenOf(request), tokens)
		if reached.whole > 0 && !token.All || reached.tenants > 0 && (token.All || token.Sum == [sha256.Size]byte{}) {
			t.Errorf("%s %s, %q: %d and %d requests", method, target, secret, reached.whole, reached.tenants)
		}
		body, kind := answer.Body.String(), answer.Header().Get("Content-Type")
		if kind == "application/json" && !json.Valid([]byte(body)) {
			t.Errorf("%s %s: %q", method, target, body)
		}
		if strings.HasPrefix(kind, "text/html") && strings.Contains(body, "<i>") ||
			strings.Contains(log.String(), "not made") {
			t.Errorf("%s %s: %s\n%s", method, target, body, log.String())
		}
	})
}
