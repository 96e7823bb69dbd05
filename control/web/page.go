// Package web is the status page: the state of the daemon for people with a browser.
//
// A [Page] needs no other site and runs no script, and requests change nothing. Its chart
// is drawn from a [History].
package web

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"rcpt-milter/control"
)

//go:embed page
var pageFiles embed.FS

// Config configures access to the page.
type Config struct {
	// On reports whether the page is served. It is called for every request.
	On func() bool
	// Hosts returns the allowed host names, in addition to those of control.KnownHost. It is
	// called for every request.
	Hosts func() []string
	// NeedsToken reports whether a request needs a token; otherwise the permissions of the socket
	// decide. It is called for every request. Nil means never.
	NeedsToken func() bool
	// Tokens returns the tokens that give access. It is called for every request that needs one.
	Tokens func() ([]Token, error)
	// Tenants answers requests with a token for some domains. Nil means that they see nothing.
	Tenants control.TenantBackend
	// API answers requests for JSON with a token for everything. Nil means that there is none.
	API http.Handler
	// Now is the clock. The default is time.Now.
	Now func() time.Time
}

func (c *Config) needsToken() bool { return c.NeedsToken != nil && c.NeedsToken() }

// Backend answers what the page asks.
type Backend interface {
	Status(context.Context) (control.Status, error)
	Lookup(context.Context, control.LookupQuery) (control.LookupAnswer, error)
	Report(context.Context, control.ReportQuery) (control.Report, error)
}

// Page serves the state of the daemon: the directories, a chart of the last day, rejected
// recipients, and the reply that an address would get.
type Page struct {
	config  Config
	backend Backend
	history *History
	log     *slog.Logger
	html    *template.Template
	mux     *http.ServeMux
	slots   chan struct{}
}

// answerTimeout limits the time of a page.
const answerTimeout = 10 * time.Second

// pageSlots limits concurrent pages.
const pageSlots = 4

// contentPolicy allows only the resources of the page (Content Security Policy 3).
const contentPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; " +
	"frame-ancestors 'none'"

// New returns a page. A nil log discards.
func New(config Config, backend Backend, history *History, log *slog.Logger) *Page {
	if config.Now == nil {
		config.Now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Page{config: config, backend: backend, history: history, log: log, slots: make(chan struct{}, pageSlots)}
	p.html = template.Must(template.New("").Funcs(pageWords(config.Now)).ParseFS(pageFiles, "page/*.html"))
	p.mux = http.NewServeMux()
	p.mux.HandleFunc("GET /{$}", p.byAccess(p.overview, p.tenantOverview))
	p.mux.HandleFunc("GET /lookup", p.byAccess(p.lookup, p.tenantLookup))
	p.mux.HandleFunc("GET /v1/status", p.api(p.tenantStatusJSON))
	p.mux.HandleFunc("GET /v1/lookup", p.api(p.tenantLookupJSON))
	p.mux.HandleFunc("GET /v1/report", p.api(p.tenantReportJSON))
	p.mux.HandleFunc("GET /style.css", p.file("text/css; charset=utf-8"))
	p.mux.HandleFunc("GET /icon.svg", p.file("image/svg+xml"))
	return p
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.config.On() {
		http.NotFound(w, r)
		return
	}
	if !control.KnownHost(r.Host, p.config.Hosts()) {
		control.RejectHost(w)
		return
	}
	r, ok := p.authorized(w, r)
	if !ok {
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	p.mux.ServeHTTP(w, r)
}

// overviewData is the data of the template overview.html.
type overviewData struct {
	Host    string // name of this host; empty means unknown
	Status  control.Status
	Edges   []control.FleetRow // that follow this hub
	Report  control.Report
	Chart   chart
	Refresh int // seconds; 0 means no refresh
	Now     time.Time
	Query   string // for the form
}

// refreshSeconds is how often a browser refreshes the page, on request.
const refreshSeconds = 30

// topShown limits the rejected domains and networks on the page.
const topShown = 10

func (p *Page) overview(w http.ResponseWriter, r *http.Request) {
	p.show(w, r, "overview.html", func(ctx context.Context) (any, error) {
		now := p.config.Now()
		d := overviewData{Now: now}
		d.Host, _ = os.Hostname() // the page needs no name
		if r.URL.Query().Has("refresh") {
			d.Refresh = refreshSeconds
		}
		var err error
		if d.Status, err = p.backend.Status(ctx); err != nil {
			return nil, err
		}
		d.Edges = d.Status.FleetRows(now)
		p.history.Observe(now, d.Status.Judged())
		d.Chart = newChart(p.history.Sum(now, chartSpan))
		d.Report, err = p.backend.Report(ctx, control.ReportQuery{Since: control.Time{Time: now.Add(-24 * time.Hour)},
			Limit: topShown, Brief: true})
		return d, err
	})
}

// lookupData is the data of the template lookup.html.
type lookupData struct {
	Query  string
	Answer control.LookupAnswer
	Now    time.Time
}

// maxQuery is far above the length of any address.
const maxQuery = 2048

func (p *Page) lookup(w http.ResponseWriter, r *http.Request) {
	q := strings.TrimSpace(r.URL.Query().Get("address"))
	if q == "" || len(q) > maxQuery {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	p.show(w, r, "lookup.html", func(ctx context.Context) (any, error) {
		answer, err := p.backend.Lookup(ctx, control.LookupQuery{Address: q})
		return lookupData{Query: q, Answer: answer, Now: p.config.Now()}, err
	})
}

// show renders a template with the result of data, or the error page.
func (p *Page) show(w http.ResponseWriter, r *http.Request, name string, data func(context.Context) (any, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	if !p.enter(ctx, w) {
		return
	}
	defer p.leave()
	status := http.StatusOK
	what, err := data(ctx)
	if err != nil {
		status = http.StatusInternalServerError
		if !accessOf(r).all {
			status, err = p.tenantError(err)
		}
		name, what = "error.html", err.Error()
	}
	var page bytes.Buffer
	if err := p.html.ExecuteTemplate(&page, name, what); err != nil {
		p.log.Error("status page not made", "error", err)
		http.Error(w, "the page cannot be made; see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(page.Bytes())
}

// enter waits for a slot. It answers the request if there is none.
func (p *Page) enter(ctx context.Context, w http.ResponseWriter) bool {
	select {
	case p.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		http.Error(w, "too many pages are asked for at one time", http.StatusServiceUnavailable)
		return false
	}
}

func (p *Page) leave() { <-p.slots }

// file serves an embedded file.
func (p *Page) file(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := pageFiles.ReadFile("page" + r.URL.Path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Write(text)
	}
}
