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
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/text"
)

//go:embed page
var pageFiles embed.FS

// Config configures access to the page.
type Config struct {
	// On reports whether the page is served. It is called for every request.
	On func() bool
	// Hosts returns the allowed host names, in addition to localhost, IP addresses and the
	// name of this host. It is called for every request. The check prevents DNS rebinding:
	// requests of a foreign page under a name that resolves to this host.
	Hosts func() []string
	// Now is the clock. The default is time.Now.
	Now func() time.Time
}

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

// New returns a page.
func New(config Config, backend Backend, history *History, log *slog.Logger) *Page {
	if config.Now == nil {
		config.Now = time.Now
	}
	p := &Page{config: config, backend: backend, history: history, log: log, slots: make(chan struct{}, pageSlots)}
	p.html = template.Must(template.New("").Funcs(pageWords(config.Now)).ParseFS(pageFiles, "page/*.html"))
	p.mux = http.NewServeMux()
	p.mux.HandleFunc("GET /{$}", p.overview)
	p.mux.HandleFunc("GET /lookup", p.lookup)
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
	if !p.known(r.Host) {
		http.Error(w, "this page is not served under the name "+text.Shortened(r.Host, maxHost)+
			"; add it to page.hosts in the configuration if it is yours", http.StatusMisdirectedRequest)
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

// known reports whether a host name belongs to this page.
func (p *Page) known(host string) bool {
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "localhost" || net.ParseIP(name) != nil || slices.Contains(p.config.Hosts(), name) {
		return true
	}
	own, err := os.Hostname()
	return err == nil && strings.EqualFold(name, own)
}

// maxHost limits the bytes of a host name in an answer.
const maxHost = 255

// overviewData is the data of the template overview.html.
type overviewData struct {
	Status  control.Status
	Report  control.Report
	Chart   chart
	Refresh int // seconds; 0 means no refresh
	Now     time.Time
	Query   string // for the form
}

// topShown limits the rejected domains and networks on the page.
const topShown = 10

func (p *Page) overview(w http.ResponseWriter, r *http.Request) {
	p.show(w, r, "overview.html", func(ctx context.Context) (any, error) {
		now := p.config.Now()
		d := overviewData{Now: now}
		if r.URL.Query().Has("refresh") {
			d.Refresh = 30
		}
		var err error
		if d.Status, err = p.backend.Status(ctx); err != nil {
			return nil, err
		}
		p.history.Observe(now, d.Status.Decisions, d.Status.WouldRefuse)
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
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		http.Error(w, "too many pages are asked for at one time", http.StatusServiceUnavailable)
		return
	}
	status := http.StatusOK
	what, err := data(ctx)
	if err != nil {
		status, name, what = http.StatusInternalServerError, "error.html", err.Error()
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
