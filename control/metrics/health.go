package metrics

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rcpt-milter/control"
)

// scrapesAtOnce limits concurrent scrapes.
const scrapesAtOnce = 4

// Handler serves /metrics, /healthz (the process answers) and /readyz (recipients are
// judged by an index). A page that is not nil serves all other paths. Requests change
// nothing. A nil log discards.
func (m *Metrics) Handler(backend Backend, page http.Handler, log *slog.Logger) http.Handler {
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
	case s.State == control.NotReady:
		say(w, http.StatusServiceUnavailable, "not ready: a directory has not been read in full yet; recipients that "+
			"are not in the index get 451")
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
