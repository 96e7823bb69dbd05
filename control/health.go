package control

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapesAtOnce bounds how many scrapes are answered at one time.
const scrapesAtOnce = 4

// Handler serves /metrics, /healthz (the process answers) and /readyz (it would
// answer a RCPT from an index), and where there is one the status page for everything
// else. They only tell; nothing can be done through them. A nil log discards.
func (m *Metrics) Handler(backend Backend, page *Page, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ours := prometheus.NewRegistry()
	ours.MustRegister(newStatusCollector(backend, log),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{m.registry, ours}, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesAtOnce,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, backend) })
	if page != nil {
		mux.Handle("/", page)
	}
	return mux
}

func ready(w http.ResponseWriter, r *http.Request, backend Backend) {
	s, err := backend.Status(r.Context())
	switch {
	case err != nil:
		say(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
	case s.State == NotReady:
		say(w, http.StatusServiceUnavailable, "not ready: a directory has not been read in full yet; recipients that are not in the index get 451")
	default:
		say(w, http.StatusOK, fmt.Sprintf("ready: the index is %s", s.State))
	}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// ServeHealth serves the handler on the listener until ctx ends, and closes it. It
// returns nil where ctx ended.
func ServeHealth(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return serve(ctx, newHTTPServer(handler, answerTimeout, log), l)
}
