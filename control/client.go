package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// ErrNotReachable says that no daemon answers; the wrapping error says why and what
// to do.
var ErrNotReachable = errors.New("the daemon is not reachable")

// dialTimeout bounds the connection, requestTimeout a whole request but a sync, and
// statePatience one for the state: a monitoring system ends what takes it above 10 s, and
// would show that and not that the daemon hangs.
const (
	dialTimeout    = 5 * time.Second
	requestTimeout = answerTimeout
	statePatience  = 7 * time.Second
	maxAnswer      = 64 << 20 // octets, far above a status with thousands of domains
)

// Client asks a daemon. Make it with NewClient; it needs no closing.
type Client struct {
	socket string
	http   *http.Client
	status time.Duration // how long the state is waited for
}

// NewClient makes a client for the control socket at the path. It does not connect.
func NewClient(socket string) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Client{socket: socket, status: statePatience, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: requestTimeout,
	}}}
}

// Status asks for the state of the daemon.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, c.status)
	defer cancel()
	var status Status
	return status, c.get(ctx, "/v1/status", &status)
}

// Lookup asks what a RCPT with this address would be told.
func (c *Client) Lookup(ctx context.Context, q LookupQuery) (LookupAnswer, error) {
	values := url.Values{"address": {q.Address}}
	if q.Client != "" {
		values.Set("client", q.Client)
	}
	if q.Authenticated {
		values.Set("authenticated", strconv.FormatBool(true))
	}
	if !q.At.IsZero() {
		values.Set("at", q.At.UTC().Format(time.RFC3339Nano))
	}
	var answer LookupAnswer
	return answer, c.get(ctx, "/v1/lookup?"+values.Encode(), &answer)
}

// Version asks which program the daemon is.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	return v, c.get(ctx, "/v1/version", &v)
}

// Sync asks for passes. With q.Wait it returns when they have ended, however long
// that takes, and calls progress meanwhile. The error is that of the passes as well.
func (c *Client) Sync(ctx context.Context, q SyncQuery, progress func(SyncEvent)) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return receive(ctx, c, http.MethodPost, "/v1/sync", bytes.NewReader(body), func(e SyncEvent) error {
		progress(e)
		return nil
	})
}

// Removals visits the removals that wait. An error of visit ends it and is returned.
func (c *Client) Removals(ctx context.Context, q RemovalsQuery, visit func(HeldRemoval) error) error {
	values := url.Values{"directory": {q.Directory}}
	return receive(ctx, c, http.MethodGet, "/v1/removals?"+values.Encode(), nil, visit)
}

// Approve applies the removals that are held back, after a pass that is under way.
func (c *Client) Approve(ctx context.Context, q RemovalsQuery, tell func(RemovalsDone)) error {
	return c.settle(ctx, "/v1/removals/approve", q, tell)
}

// Discard forgets them: what they are about stays until a full pass misses it again.
func (c *Client) Discard(ctx context.Context, q RemovalsQuery, tell func(RemovalsDone)) error {
	return c.settle(ctx, "/v1/removals/discard", q, tell)
}

func (c *Client) settle(ctx context.Context, path string, q RemovalsQuery, tell func(RemovalsDone)) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return receive(ctx, c, http.MethodPost, path, bytes.NewReader(body), func(d RemovalsDone) error {
		tell(d)
		return nil
	})
}

// Journal visits what passes changed, oldest pass first. An error of visit ends it and
// is returned.
func (c *Client) Journal(ctx context.Context, q JournalQuery, visit func(JournalRow) error) error {
	values := url.Values{}
	if !q.Since.IsZero() {
		values.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Pass != 0 {
		values.Set("pass", strconv.FormatUint(q.Pass, 10))
	}
	return receive(ctx, c, http.MethodGet, "/v1/journal?"+values.Encode(), nil, visit)
}

// Report asks what was refused.
func (c *Client) Report(ctx context.Context, q ReportQuery) (Report, error) {
	values := url.Values{}
	if !q.Since.IsZero() {
		values.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit != 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	var r Report
	return r, c.get(ctx, "/v1/report?"+values.Encode(), &r)
}

// Compare compares the index with the directories, which takes as long as reading them.
// The error is that of directories that could not be read as well. An error of visit
// ends it and is returned.
func (c *Client) Compare(ctx context.Context, q CompareQuery, visit func(CompareEvent) error) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return receive(ctx, c, http.MethodPost, "/v1/compare", bytes.NewReader(body), visit)
}

// Export asks for the list of recipients. An error of visit ends it and is returned.
func (c *Client) Export(ctx context.Context, q ExportQuery, visit func(ExportEvent) error) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return receive(ctx, c, http.MethodPost, "/v1/export", bytes.NewReader(body), visit)
}

// Verify has the daemon check its store, which takes as long as reading it.
func (c *Client) Verify(ctx context.Context) (Verified, error) {
	var found Verified
	return found, receive(ctx, c, http.MethodPost, "/v1/verify", nil, func(v Verified) error {
		found = v
		return nil
	})
}

// Reload has the daemon read its configuration file again. A file that is refused is no
// error.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	var done Reloaded
	return done, receive(ctx, c, http.MethodPost, "/v1/reload", nil, func(r Reloaded) error {
		done = r
		return nil
	})
}

// get asks one question with a JSON answer.
func (c *Client) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	response, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("cannot read the daemon's answer: %w", err)
	}
	return nil
}

// do sends a request, and turns an answer that is an error into one.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://control"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode < 400 {
		return response, nil
	}
	defer response.Body.Close()
	var f failure
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("the daemon answers %s", response.Status)
	}
	if response.StatusCode == http.StatusGone {
		return nil, notKept(f.Error)
	}
	return nil, errors.New(f.Error)
}

// notKept is the daemon's wording of ErrNotKept.
type notKept string

func (e notKept) Error() string { return string(e) }
func (notKept) Unwrap() error   { return ErrNotKept }

// unreachable says in one sentence why no daemon answers and what to do.
func (c *Client) unreachable(err error) error {
	advice := "is it running?"
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrNotExist):
		advice = "the socket does not exist; is the daemon running, with this configuration?"
	case errors.Is(err, syscall.ECONNREFUSED):
		advice = "nobody answers on its socket; is it running?"
	case errors.Is(err, fs.ErrPermission):
		advice = "this user may not open its socket; run the command as root or as a member of group rcpt-milter"
	case errors.Is(err, context.DeadlineExceeded):
		advice = "it does not answer in time"
	default:
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		advice = err.Error()
	}
	return fmt.Errorf("%w at unix:%s: %s", ErrNotReachable, c.socket, advice)
}
