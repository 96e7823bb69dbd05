package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

// fake is a backend with fixed answers.
type fake struct {
	status control.Status
	answer control.LookupAnswer
	report func(control.ReportQuery) (control.Report, error)
	err    error
}

func (f *fake) Status(context.Context) (control.Status, error) { return f.status, f.err }

func (f *fake) Lookup(context.Context, control.LookupQuery) (control.LookupAnswer, error) {
	return f.answer, f.err
}

func (f *fake) Report(_ context.Context, q control.ReportQuery) (control.Report, error) {
	return f.report(q)
}

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

// fill puts the same text into every text of a value, and something into all else.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1234567)
	case reflect.Uint64:
		v.SetUint(3)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
		if v.Elem().Kind() == reflect.Bool {
			v.Elem().SetBool(false)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value, text)
		v.SetMapIndex(reflect.ValueOf(text), value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[control.Time]() {
			v.Set(reflect.ValueOf(control.Time{Time: pageNow.Add(-time.Hour)}))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	}
}

var pageNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// testPage is a page on a backend.
func testPage(f *fake) *Page {
	if f.report == nil {
		f.report = func(control.ReportQuery) (control.Report, error) { return control.Report{}, nil }
	}
	return New(Config{On: func() bool { return true }, Hosts: func() []string { return []string{"relay.example.com"} },
		Now: func() time.Time { return pageNow }}, f, &History{}, nil)
}

// ask makes a request as a browser on this machine does.
func ask(p http.Handler, method, target, host string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = host
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestPage(t *testing.T) {
	const text = `x"><script>alert('1')</script>&'`
	var hostile fake
	fill(reflect.ValueOf(&hostile.status).Elem(), text)
	fill(reflect.ValueOf(&hostile.answer).Elem(), text)
	var report control.Report
	fill(reflect.ValueOf(&report).Elem(), text)
	hostile.report = func(q control.ReportQuery) (control.Report, error) {
		if !q.Brief || q.Limit == 0 {
			t.Errorf("the page asks for %+v", q)
		}
		return report, nil
	}
	foreign := regexp.MustCompile(`(?i)(src|href|action)="?(https?:)?//|url\(|javascript:|<script|\son[a-z]+=|\sstyle=`)
	for _, c := range []struct {
		what   string
		f      *fake
		path   string
		status int
		want   string
	}{
		{"hostile", &hostile, "/", 200, "&lt;script&gt;"},
		{"hostile", &hostile, "/lookup?address=" + url.QueryEscape(text), 200, "&lt;script&gt;"},
		{"nothing", &fake{}, "/", 200, "rcpt-milter"},
		{"full", &fake{status: fullStatus(t)}, "/", 200, "Directory corp"},
		{"full", &fake{status: fullStatus(t)}, "/", 200, "7 recipients judged in the last 24 hours"},
		{"full", &fake{status: fullStatus(t)}, "/", 200, "no address of exmaple.com is known"},
		{"expiry", &fake{status: fullStatus(t)}, "/", 200, "<dt>Certificates</dt><dd>valid until 2026-03-06"},
		{"expiry", &fake{status: fullStatus(t)}, "/", 200, "<dt>Password</dt><dd>valid until 2026-03-07"},
		{"expiry", &fake{status: fullStatus(t)}, "/", 200, "<dt>Account</dt><dd>valid until 2026-03-08"},
		{"export", &fake{status: fullStatus(t)}, "/", 200, "the last good file stays: the store is damaged"},
		{"refresh", &fake{status: fullStatus(t)}, "/?refresh", 200, `http-equiv="refresh" content="30"`},
		{"answer", &fake{answer: control.LookupAnswer{Address: "A@x.test", Outcome: control.Refused,
			Reply: "550 5.1.1"}}, "/lookup?address=A@x.test", 200, "550 5.1.1"},
		{"no address", &fake{}, "/lookup?address=", 303, ""},
		{"too long", &fake{}, "/lookup?address=" + strings.Repeat("x", 5000), 303, ""},
		{"trouble", &fake{err: errors.New("store <closed>")}, "/", 500, "store &lt;closed&gt;"},
		{"trouble", &fake{err: errors.New("store <closed>")}, "/lookup?address=a", 500, "store &lt;closed&gt;"},
		{"style", &fake{}, "/style.css", 200, "prefers-color-scheme: dark"},
		{"icon", &fake{}, "/icon.svg", 200, "<svg"},
		{"elsewhere", &fake{}, "/page/style.css", 404, ""},
		{"elsewhere", &fake{}, "/etc/passwd", 404, ""},
	} {
		w := ask(testPage(c.f), http.MethodGet, c.path, "127.0.0.1:9417")
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: GET %s: %d, want %d with %q:\n%s", c.what, c.path, w.Code, c.status, c.want, w.Body)
		}
		if bad := foreign.FindString(w.Body.String()); bad != "" {
			t.Errorf("%s: GET %s has %q", c.what, c.path, bad)
		}
		for name, want := range map[string]string{"Content-Security-Policy": contentPolicy,
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: GET %s: %s is %q, want %q", c.what, c.path, name, got, want)
			}
		}
	}
}

// TestPageOnlyTells: no other method does anything, and where it is off there is nothing.
func TestPageOnlyTells(t *testing.T) {
	p := testPage(&fake{})
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		if w := ask(p, method, "/lookup?address=a@b", "localhost"); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s is answered %d", method, w.Code)
		}
	}
	p.config.On = func() bool { return false }
	if w := ask(p, "GET", "/", "localhost"); w.Code != http.StatusNotFound {
		t.Errorf("switched off it answers %d", w.Code)
	}
}

// TestPageHosts: a name that somebody else may have pointed here is not ours.
func TestPageHosts(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"localhost": 200, "LocalHost:9417": 200, "127.0.0.1": 200, "[::1]:9417": 200, "192.0.2.1:9417": 200,
		"relay.example.com": 200, "Relay.Example.com.:80": 200, strings.ToUpper(own) + ":9417": 200,
		"evil.example": 421, "localhost.evil.example:9417": 421, "": 421, "relay.example.com.evil.example": 421,
		"127.0.0.1.evil.example": 421,
	} {
		w := ask(testPage(&fake{}), "GET", "/", host)
		if w.Code != want {
			t.Errorf("GET / from %q: %d, want %d", host, w.Code, want)
		}
		if want == 421 && (strings.Contains(w.Body.String(), "State") ||
			!strings.Contains(w.Body.String(), "page.hosts")) {
			t.Errorf("GET / from %q says %s", host, w.Body)
		}
	}
}

// TestChartScale: the y-axis has few round counts, and the highest span fits.
func TestChartScale(t *testing.T) {
	for most, want := range map[int64][]string{
		0: nil, 1: {"0", "1"}, 2: {"0", "1", "2"}, 3: {"0", "1", "2", "3"}, 4: {"0", "2", "4"}, 7: {"0", "5", "10"},
		100: {"0", "50", "100"}, 1200: {"0", "500", "1k", "1.5k"}, 2_000_000: {"0", "1M", "2M"},
		6_000_000_000: {"0", "2G", "4G", "6G"},
	} {
		c := chart{Most: most}
		c.scale()
		var got []string
		for _, m := range c.Counts {
			got = append(got, m.Text)
		}
		if !slices.Equal(got, want) || c.Scale < most {
			t.Errorf("for %d: %q up to %d, want %q", most, got, c.Scale, want)
		}
	}
	c := chart{Most: 1 << 60}
	if c.scale(); c.Scale < c.Most || len(c.Counts) > chartSteps+1 {
		t.Errorf("for 2^60: %+v", c)
	}
}

func TestChart(t *testing.T) {
	var h History
	if c := newChart(h.Sum(pageNow, chartSpan)); len(c.Bars) != 0 || c.Most != 0 || len(c.Hours) != 6 {
		t.Errorf("a chart of nothing: %+v", c)
	}
	h.Observe(pageNow, control.Judged{Accepted: 100_000, Refused: 1})
	h.Observe(pageNow.Add(-20*time.Hour), control.Judged{Accepted: 150_000, Refused: 1})
	c := newChart(h.Sum(pageNow, chartSpan))
	if len(c.Bars) != 3 || c.Most != 100_001 || c.Scale != 150_000 {
		t.Fatalf("a chart of two spans: %+v", c)
	}
	var counts []string
	for i, m := range c.Counts {
		counts = append(counts, m.Text)
		if m.Y < 0 || m.Y > chartHeight || i > 0 && m.Y >= c.Counts[i-1].Y {
			t.Errorf("the counts are %+v", c.Counts)
		}
	}
	if want := []string{"0", "50k", "100k", "150k"}; !slices.Equal(counts, want) {
		t.Errorf("the counts are %q, want %q", counts, want)
	}
	for _, b := range c.Bars {
		if b.Height < 1 || b.Y < 0 || b.Y+b.Height > chartHeight || b.X < chartLeft || b.X+b.Width > c.Width {
			t.Errorf("a bar is outside: %+v", b)
		}
	}
}
