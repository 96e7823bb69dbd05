package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"
)

// Limits for clients. They are trusted, but may be faulty.
const (
	maxBody       = 64 << 10
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	answerTimeout = 30 * time.Second // for answers that are not sent in lines
	lineTimeout   = 10 * time.Second // for a line that the client waits for
	idleTimeout   = time.Minute
)

// Server serves the control socket. NewServer makes one.
type Server struct {
	backend Backend
	version Version
	log     *slog.Logger
	http    *http.Server
}

// NewServer returns a server with the version of this program. A nil log discards.
func NewServer(backend Backend, version string, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{backend: backend, version: Version{version, runtime.Version()}, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/lookup", s.lookup)
	mux.HandleFunc("POST /v1/sync", s.sync)
	mux.HandleFunc("GET /v1/journal", s.journal)
	mux.HandleFunc("GET /v1/report", s.report)
	mux.HandleFunc("POST /v1/compare", s.compare)
	mux.HandleFunc("POST /v1/export", s.export)
	mux.HandleFunc("POST /v1/verify", single(s.verify))
	mux.HandleFunc("POST /v1/reload", single(s.reload))
	mux.HandleFunc("GET /v1/removals", s.removals)
	mux.HandleFunc("POST /v1/removals/approve", s.settle(actionApprove, backend.Approve))
	mux.HandleFunc("POST /v1/removals/discard", s.settle(actionDiscard, backend.Discard))
	if e, ok := backend.(Enroller); ok {
		s.enrolment(mux, e)
	}
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.version, nil) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, http.StatusNotFound, fmt.Errorf("unknown request to this daemon (version %s): %s %s", version,
			r.Method, r.URL.Path))
	})
	s.http = newHTTPServer(mux, log)
	s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return withConn(withPeer(ctx, c), c)
	}
	return s
}

// ReadHandler returns a handler of the requests about recipients that change nothing: GET /v1/status,
// /v1/lookup and /v1/report. It has none of the limits of a Server.
func (s *Server) ReadHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/lookup", s.lookup)
	mux.HandleFunc("GET /v1/report", s.report)
	return mux
}

// newHTTPServer returns a server with all limits set.
func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           marking(recovering(handler, log)),
		ConnContext:       withConn,
		ConnState:         markIdle,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Serve serves the listener until ctx ends, and closes it. It returns nil if ctx ended. It does
// not wait for running requests, because a sync may take hours.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return serve(ctx, s.http, l)
}

// Serve serves a handler on the listener until ctx ends, with the limits of a Server, and
// closes the listener. It returns nil if ctx ended. A nil log discards.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return serve(ctx, newHTTPServer(handler, log), l)
}

func serve(ctx context.Context, server *http.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.Serve(l)
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	status, err := s.backend.Status(r.Context())
	s.answer(w, status.normal(), err)
}

func (s *Server) lookup(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	q := LookupQuery{Address: values.Get("address"), Client: values.Get("client")}
	var err, bad error
	if text := values.Get("authenticated"); text != "" {
		q.Authenticated, err = strconv.ParseBool(text)
	}
	if text := values.Get("at"); text != "" {
		q.At.Time, bad = time.Parse(time.RFC3339, text)
	}
	if q.Address == "" || err != nil || bad != nil {
		s.fail(w, http.StatusBadRequest,
			errors.New("expected address, and optionally client, authenticated and at (RFC 3339)"))
		return
	}
	answer, err := s.backend.Lookup(r.Context(), q)
	s.answer(w, answer.normal(), err)
}

func (s *Server) sync(w http.ResponseWriter, r *http.Request) {
	var q SyncQuery
	if !s.read(w, r, &q) {
		return
	}
	// The ends of the passes are logged on their own, maybe hours later.
	operatorOf(r.Context()).acted(s.log, "sync", nil, "full", q.Full, "wait", q.Wait)
	stream(w, r, live, func(ctx context.Context, tell func(SyncEvent) error) error {
		// If the client disconnects, the passes continue.
		return s.backend.Sync(ctx, q, func(e SyncEvent) { tell(e) })
	})
}

func (s *Server) removals(w http.ResponseWriter, r *http.Request) {
	q := RemovalsQuery{Directory: r.URL.Query().Get("directory")}
	stream(w, r, bulk, func(ctx context.Context, tell func(HeldRemoval) error) error {
		return s.backend.Removals(ctx, q, tell)
	})
}

// Actions for held removals.
const (
	actionApprove = "approve"
	actionDiscard = "discard"
)

// settle approves or discards held removals.
func (s *Server) settle(action string, do func(context.Context, RemovalsQuery,
	func(RemovalsDone)) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q RemovalsQuery
		if !s.read(w, r, &q) {
			return
		}
		stream(w, r, live, func(ctx context.Context, tell func(RemovalsDone) error) error {
			log := &settled{Operator: operatorOf(ctx), log: s.log, action: action, query: q}
			err := do(ctx, q, func(d RemovalsDone) {
				log.done(d)
				tell(d)
			})
			log.end(err)
			return err
		})
	}
}

func (s *Server) verify(ctx context.Context) (Verified, error) {
	found, err := s.backend.Verify(ctx)
	operatorOf(ctx).acted(s.log, "verify", err)
	return found, err
}

func (s *Server) reload(ctx context.Context) (Reloaded, error) {
	done, err := s.backend.Reload(ctx)
	if err != nil {
		operatorOf(ctx).acted(s.log, "reload", err)
		return done, err
	}
	done = done.normal()
	operatorOf(ctx).Reloaded(s.log, done)
	return done, nil
}

func (s *Server) journal(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	var q JournalQuery
	var err, bad error
	if text := values.Get("since"); text != "" {
		q.Since.Time, err = time.Parse(time.RFC3339, text)
	}
	if text := values.Get("pass"); text != "" {
		q.Pass, bad = strconv.ParseUint(text, 10, 64)
	}
	if err != nil || bad != nil {
		s.fail(w, http.StatusBadRequest,
			errors.New("expected optionally since (RFC 3339) and pass (a number)"))
		return
	}
	stream(w, r, bulk, func(ctx context.Context, tell func(JournalRow) error) error {
		return s.backend.Journal(ctx, q, tell)
	})
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	var q ReportQuery
	var err, bad error
	if text := values.Get("since"); text != "" {
		q.Since.Time, err = time.Parse(time.RFC3339, text)
	}
	if text := values.Get("limit"); text != "" {
		q.Limit, bad = strconv.Atoi(text)
	}
	if err != nil || bad != nil || q.Limit < 0 {
		s.fail(w, http.StatusBadRequest,
			errors.New("expected optionally since (RFC 3339) and limit (a number)"))
		return
	}
	report, err := s.backend.Report(r.Context(), q)
	s.answer(w, report.normal(), err)
}

func (s *Server) compare(w http.ResponseWriter, r *http.Request) {
	var q CompareQuery
	if !s.read(w, r, &q) {
		return
	}
	stream(w, r, patient, func(ctx context.Context, tell func(CompareEvent) error) error {
		var differences int64
		err := s.backend.Compare(ctx, q, func(e CompareEvent) error {
			if e.Difference != nil {
				differences++
			}
			return tell(e)
		})
		operatorOf(ctx).acted(s.log, "compare", err, "directory", q.Directory, "differences", differences)
		return err
	})
}

// single sends the one answer of a long request as a line.
func single[E any](do func(context.Context) (E, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		stream(w, r, live, func(ctx context.Context, tell func(E) error) error {
			e, err := do(ctx)
			if err != nil {
				return err
			}
			return tell(e)
		})
	}
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	var q ExportQuery
	if !s.read(w, r, &q) {
		return
	}
	stream(w, r, bulk, func(ctx context.Context, tell func(ExportEvent) error) error {
		var recipients int
		err := s.backend.Export(ctx, q, func(e ExportEvent) error {
			recipients += len(e.Recipients)
			return tell(e)
		})
		operatorOf(ctx).acted(s.log, "export", err, "recipients", recipients)
		return err
	})
}

// read decodes the body of a request. It returns false if it has sent an error.
func (s *Server) read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		s.fail(w, http.StatusBadRequest, fmt.Errorf("cannot read the request: %w", err))
		return false
	}
	return true
}

// answer sends value, or err if it is not nil.
func (s *Server) answer(w http.ResponseWriter, value any, err error) {
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, ErrNotSupported) {
			status = http.StatusNotImplemented
		}
		if errors.Is(err, ErrNotKept) {
			status = http.StatusGone
		}
		s.fail(w, status, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		s.log.Debug("control answer not sent", "error", err)
	}
}

// failure is the JSON of an error.
type failure struct {
	Error string `json:"error"`
}

func (s *Server) fail(w http.ResponseWriter, status int, err error) { writeFailure(w, status, err) }

func writeFailure(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(failure{err.Error()})
}
