package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/singleflight"

	"rcpt-milter/control"
)

// scrapesAtOnce limits concurrent scrapes.
const scrapesAtOnce = 4

// elsewhere answers a request for the status page, which this listener served once.
const elsewhere = "the status page is on a listener of its own: page.listen in the configuration, by default a unix " +
	"socket; on your own machine:\n\n    ssh -L 9417:/run/rcpt-milter/page.sock THIS-HOST\n\nand then " +
	"http://localhost:9417/"

// Handler serves /metrics, /healthz (the process answers) and /readyz (Postfix can connect, and
// recipients are judged by an index). Requests change nothing. hosts returns additional host names
// for control.CheckHost. A nil log discards.
func (m *Metrics) Handler(backend Backend, hosts func() []string, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ours := prometheus.NewRegistry()
	ours.MustRegister(newStatusCollector(backend, log), newFleetCollector(backend),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{m.registry, ours}, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesAtOnce,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	asking := &singleflight.Group{}
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, backend, asking) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusNotFound, elsewhere) })
	return control.CheckHost(hosts, mux)
}

// statusLimit is how long the state may take before the daemon counts as not ready.
const statusLimit = 5 * time.Second

// statusWithin returns the status, or an error if it takes too long. It reads files, which may be
// on a file system that does not answer. Only one call waits for it at a time.
func statusWithin(ctx context.Context, backend Backend, asking *singleflight.Group) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	asked := asking.DoChan("status", func() (any, error) { return backend.Status(context.WithoutCancel(ctx)) })
	select {
	case answer := <-asked:
		s, _ := answer.Val.(control.Status)
		return s, answer.Err
	case <-ctx.Done():
		return control.Status{}, fmt.Errorf("the state is not available in time: %w", ctx.Err())
	}
}

func ready(w http.ResponseWriter, r *http.Request, backend Backend, asking *singleflight.Group) {
	if err := backend.Ready(r.Context()); err != nil {
		say(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
		return
	}
	s, err := statusWithin(r.Context(), backend, asking)
	switch {
	case err != nil:
		say(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
	case s.State == control.NotReady:
		say(w, http.StatusServiceUnavailable, "not ready: a directory has not been read in full yet, or not since its "+
			"rules changed; "+s.UnknownText(control.NotReady))
	case s.StoreState == control.StoreFailed:
		say(w, http.StatusServiceUnavailable, "not ready: the index cannot be read, and its recipients get 451: "+
			s.StoreError)
	case len(s.ClosedToPostfix()) > 0:
		say(w, http.StatusServiceUnavailable, "not ready: "+s.ClosedToPostfix()[0].Text())
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
