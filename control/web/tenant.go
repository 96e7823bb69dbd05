package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rcpt-milter/control"
)

// errNoAnswer replaces the errors of tenants' requests, which may name files, directories and domains of
// others. The log has them.
var errNoAnswer = errors.New("the daemon cannot answer this request now; its administrator finds the reason in its log")

// tenantRows limits the rows of a report for a tenant, unless the request has a limit of its own.
const tenantRows = 100

// byAccess calls all for requests that may see everything, and tenant for the others.
func (p *Page) byAccess(all, tenant http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case accessOf(r).all:
			all(w, r)
		case p.config.Tenants == nil:
			http.NotFound(w, r)
		default:
			tenant(w, r)
		}
	}
}

// api serves JSON to requests with a token. Without tokens there is no API: the control socket has one.
func (p *Page) api(tenant func(context.Context, *http.Request) (any, error)) http.HandlerFunc {
	answer := func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		if !p.enter(ctx, w) {
			return
		}
		defer p.leave()
		value, err := tenant(ctx, r)
		status := http.StatusOK
		if err != nil {
			status, err = p.tenantError(err)
			value = struct {
				Error string `json:"error"`
			}{err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(value)
	}
	full := func(w http.ResponseWriter, r *http.Request) {
		if !accessOf(r).token || p.config.API == nil {
			http.NotFound(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		if p.enter(ctx, w) {
			defer p.leave()
			p.config.API.ServeHTTP(w, r.WithContext(ctx))
		}
	}
	return p.byAccess(full, answer)
}

// errBadQuery is the error of a request whose parameters are wrong. It quotes none of them.
var errBadQuery = errors.New("expected address for a lookup; optionally since (RFC 3339) and limit (a number) " +
	"for a report")

// tenantError returns the status of an error, and what a tenant may know of it.
func (p *Page) tenantError(err error) (int, error) {
	switch {
	case errors.Is(err, control.ErrForeignDomain):
		return http.StatusForbidden, control.ErrForeignDomain
	case errors.Is(err, errBadQuery):
		return http.StatusBadRequest, errBadQuery
	}
	p.log.Warn("request of a tenant failed", "error", err)
	return http.StatusInternalServerError, errNoAnswer
}

func (p *Page) tenantStatusJSON(ctx context.Context, r *http.Request) (any, error) {
	return p.config.Tenants.TenantStatus(ctx, accessOf(r).scope)
}

func (p *Page) tenantLookupJSON(ctx context.Context, r *http.Request) (any, error) {
	text := strings.TrimSpace(r.URL.Query().Get("address"))
	if text == "" || len(text) > maxQuery {
		return nil, errBadQuery
	}
	return p.config.Tenants.TenantLookup(ctx, accessOf(r).scope, text)
}

func (p *Page) tenantReportJSON(ctx context.Context, r *http.Request) (any, error) {
	q := control.ReportQuery{Since: control.Time{Time: p.config.Now().Add(-24 * time.Hour)}, Limit: tenantRows}
	values := r.URL.Query()
	var bad, wrong error
	if text := values.Get("since"); text != "" {
		q.Since.Time, bad = time.Parse(time.RFC3339, text)
	}
	if text := values.Get("limit"); text != "" {
		q.Limit, wrong = strconv.Atoi(text)
	}
	if bad != nil || wrong != nil || q.Limit < 0 {
		return nil, errBadQuery
	}
	return p.config.Tenants.TenantReport(ctx, accessOf(r).scope, q)
}

// tenantData is the data of the template tenant.html.
type tenantData struct {
	Status  control.TenantStatus
	Report  control.TenantReport
	Refresh int // seconds; 0 means no refresh
	Now     time.Time
	Query   string // for the form
}

func (p *Page) tenantOverview(w http.ResponseWriter, r *http.Request) {
	p.show(w, r, "tenant.html", func(ctx context.Context) (any, error) {
		d := tenantData{Now: p.config.Now()}
		if r.URL.Query().Has("refresh") {
			d.Refresh = refreshSeconds
		}
		scope := accessOf(r).scope
		var err error
		if d.Status, err = p.config.Tenants.TenantStatus(ctx, scope); err != nil {
			return nil, err
		}
		d.Report, err = p.config.Tenants.TenantReport(ctx, scope, control.ReportQuery{Limit: topShown,
			Since: control.Time{Time: d.Now.Add(-24 * time.Hour)}})
		return d, err
	})
}

// tenantAnswer is the data of the template tenant-lookup.html.
type tenantAnswer struct {
	Query  string
	Answer control.TenantLookup
	Now    time.Time
}

func (p *Page) tenantLookup(w http.ResponseWriter, r *http.Request) {
	q := strings.TrimSpace(r.URL.Query().Get("address"))
	if q == "" || len(q) > maxQuery {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	p.show(w, r, "tenant-lookup.html", func(ctx context.Context) (any, error) {
		answer, err := p.config.Tenants.TenantLookup(ctx, accessOf(r).scope, q)
		return tenantAnswer{q, answer, p.config.Now()}, err
	})
}
