package web

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"rcpt-milter/control"
)

const (
	adminToken  = "0123456789abcdef0123456789abcdef"
	tenantToken = "fedcba9876543210fedcba9876543210"
)

// tenants is a backend of tenants with fixed answers. It records the scopes.
type tenants struct {
	t      *testing.T
	status control.TenantStatus
	lookup control.TenantLookup
	report control.TenantReport
	err    error
	limit  int
}

func (f *tenants) check(s control.Scope) {
	if len(s) != 1 || !s["mine.test"] {
		f.t.Errorf("the scope is %v", s)
	}
}

func (f *tenants) TenantStatus(_ context.Context, s control.Scope) (control.TenantStatus, error) {
	f.check(s)
	return f.status, f.err
}

func (f *tenants) TenantLookup(_ context.Context, s control.Scope, _ string) (control.TenantLookup, error) {
	f.check(s)
	return f.lookup, f.err
}

func (f *tenants) TenantReport(_ context.Context, s control.Scope, q control.ReportQuery) (control.TenantReport,
	error) {
	f.check(s)
	f.limit = q.Limit
	return f.report, f.err
}

// tokenPage is a page with one token for everything, and one for mine.test.
func tokenPage(f *fake, t *tenants) *Page {
	p := testPage(f)
	p.config.NeedsToken = func() bool { return true }
	p.config.Tokens = func() ([]Token, error) {
		return []Token{{Sum: sha256.Sum256([]byte(adminToken)), All: true},
			{Sum: sha256.Sum256([]byte(tenantToken)), Scope: control.Scope{"mine.test": true}}}, nil
	}
	if t != nil {
		p.config.Tenants = t
	}
	p.config.API = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("secret")) })
	return p
}

func askWith(p http.Handler, target, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host = "localhost"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// dataPaths are the paths with data.
var dataPaths = []string{"/", "/?refresh", "/lookup?address=jane@mine.test", "/v1/status",
	"/v1/lookup?address=jane@mine.test", "/v1/report", "/v1/report?limit=7&since=2026-03-04T10:00:00Z"}

// secretFake is a backend whose every text is a secret.
func secretFake(t *testing.T) *fake {
	var f fake
	fill(reflect.ValueOf(&f.status).Elem(), "secret")
	fill(reflect.ValueOf(&f.answer).Elem(), "secret")
	f.report = func(control.ReportQuery) (r control.Report, err error) {
		fill(reflect.ValueOf(&r).Elem(), "secret")
		return r, nil
	}
	return &f
}

// TestTenantPaths: on every path, a tenant gets the answers for its scope and nothing else; without a
// token there is none.
func TestTenantPaths(t *testing.T) {
	const hostile = `x"><script>alert('1')</script>&'`
	mine := &tenants{t: t}
	fill(reflect.ValueOf(&mine.status).Elem(), hostile)
	fill(reflect.ValueOf(&mine.lookup).Elem(), hostile)
	fill(reflect.ValueOf(&mine.report).Elem(), hostile)
	p := tokenPage(secretFake(t), mine)
	for _, path := range dataPaths {
		t.Run(path, func(t *testing.T) {
			w := askWith(p, path, tenantToken)
			body := w.Body.String()
			if w.Code != http.StatusOK || strings.Contains(body, "secret") {
				t.Errorf("with the token of a tenant: %d\n%s", w.Code, body)
			}
			if strings.HasPrefix(path, "/v1/") {
				if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
					t.Errorf("not JSON: %s", body)
				}
			} else if !strings.Contains(body, "&lt;script&gt;") || strings.Contains(body, "<script") {
				t.Errorf("not escaped: %s", body)
			}
			if w := askWith(p, path, adminToken); w.Code != http.StatusOK ||
				!strings.Contains(w.Body.String(), "secret") {
				t.Errorf("with the token for everything: %d\n%s", w.Code, w.Body)
			}
			for _, wrong := range []string{"", tenantToken[1:], tenantToken + "x", strings.ToUpper(tenantToken), "*",
				"mine.test"} {
				if w := askWith(p, path, wrong); w.Code != http.StatusUnauthorized ||
					strings.Contains(w.Body.String(), "script") || strings.Contains(w.Body.String(), "secret") {
					t.Errorf("with token %q: %d\n%s", wrong, w.Code, w.Body)
				}
			}
			if w := askWith(tokenPage(secretFake(t), nil), path, tenantToken); w.Code != http.StatusNotFound {
				t.Errorf("without a backend for tenants: %d", w.Code)
			}
		})
	}
	if askWith(p, "/v1/report?limit=7", tenantToken); mine.limit != 7 {
		t.Errorf("the limit is %d", mine.limit)
	}
	for _, path := range []string{"/v1/sync", "/v1/removals", "/v1/journal", "/v1/version", "/metrics", "/v1/status/"} {
		if w := askWith(p, path, tenantToken); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/v1/lookup", "/v1/lookup?address=" + strings.Repeat("x", 5000), "/v1/report?limit=x",
		"/v1/report?limit=-1", "/v1/report?since=yesterday"} {
		if w := askWith(p, path, tenantToken); w.Code != http.StatusBadRequest {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
}

// TestTenantErrors: an error tells a tenant nothing, and a foreign domain is one error everywhere.
func TestTenantErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		status int
	}{
		{"internal", errors.New("store /var/lib/secret: other.test"), http.StatusInternalServerError},
		{"foreign", control.ErrForeignDomain, http.StatusForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := tokenPage(&fake{}, &tenants{t: t, err: c.err})
			for _, path := range dataPaths {
				w := askWith(p, path, tenantToken)
				if body := w.Body.String(); w.Code != c.status || strings.Contains(body, "secret") ||
					strings.Contains(body, "other.test") {
					t.Errorf("GET %s: %d\n%s", path, w.Code, body)
				}
			}
		})
	}
	p := tokenPage(&fake{}, nil)
	p.config.Tokens = func() ([]Token, error) { return nil, errors.New("secret") }
	for _, path := range dataPaths {
		if w := askWith(p, path, tenantToken); w.Code != http.StatusServiceUnavailable ||
			strings.Contains(w.Body.String(), "secret") {
			t.Errorf("without readable tokens, GET %s: %d\n%s", path, w.Code, w.Body)
		}
	}
}

// TestNoTokensNoAPI: a page without tokens is as before.
func TestNoTokensNoAPI(t *testing.T) {
	p := tokenPage(secretFake(t), &tenants{t: t})
	p.config.NeedsToken = func() bool { return false }
	for _, path := range dataPaths {
		want := http.StatusOK
		if strings.HasPrefix(path, "/v1/") {
			want = http.StatusNotFound
		}
		for _, token := range []string{"", tenantToken} {
			if w := askWith(p, path, token); w.Code != want {
				t.Errorf("GET %s: %d, want %d", path, w.Code, want)
			}
		}
	}
	if w := askWith(testPage(secretFake(t)), "/lookup?address="+url.QueryEscape("a@b.test"),
		""); w.Code != http.StatusOK {
		t.Errorf("a page without settings for tokens: %d", w.Code)
	}
}

func TestFindToken(t *testing.T) {
	tokens := []Token{{Sum: sha256.Sum256([]byte("one")), All: true}, {Sum: sha256.Sum256([]byte("two"))}}
	for text, want := range map[string]int{"one": 0, "two": 1, "three": -1, "": -1} {
		got, ok := findToken(text, tokens)
		if ok != (want >= 0) || ok && got.Sum != tokens[want].Sum {
			t.Errorf("findToken(%q) = %v, %t", text, got, ok)
		}
	}
	empty := []Token{{Sum: sha256.Sum256(nil), All: true}}
	if _, ok := findToken("", empty); ok {
		t.Error("an empty text is a token")
	}
	if a := accessOf(httptest.NewRequest(http.MethodGet, "/", nil)); a.all || a.token || a.scope.Covers("mine.test") {
		t.Errorf("a request that was not authorized may see %+v", a)
	}
}
