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

	"rcpt-milter/internal/build"
)

// ErrNotReachable is wrapped by errors of requests that no daemon answers.
var ErrNotReachable = errors.New("the daemon is not reachable")

// dialTimeout limits the connection, requestTimeout a request without lines, and statusTimeout
// a request for the status. The last is below the usual 10 s of monitoring systems, so they
// report that the daemon hangs and not a timeout of their own.
const (
	dialTimeout    = 5 * time.Second
	requestTimeout = answerTimeout
	statusTimeout  = 7 * time.Second
	maxAnswer      = 64 << 20 // bytes, far above a status with thousands of domains
)

// Client sends requests to a daemon. NewClient makes one. It needs no Close.
type Client struct {
	socket string
	http   *http.Client
	status time.Duration // timeout of Status
}

// NewClient returns a client for the control socket. It does not connect.
func NewClient(socket string) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Client{socket: socket, status: statusTimeout, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: requestTimeout,
	}}}
}

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, c.status)
	defer cancel()
	var status Status
	return status, c.get(ctx, "/v1/status", &status)
}

// Lookup returns the reply to a RCPT with this address.
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

// Version returns the version of the daemon.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	return v, c.get(ctx, "/v1/version", &v)
}

// Sync starts passes. With q.Wait it returns when they have ended, without a timeout, and calls
// progress meanwhile. The error may be that of a pass.
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

// Removals visits the held removals. It returns an error of visit.
func (c *Client) Removals(ctx context.Context, q RemovalsQuery, visit func(HeldRemoval) error) error {
	values := url.Values{"directory": {q.Directory}}
	return receive(ctx, c, http.MethodGet, "/v1/removals?"+values.Encode(), nil, visit)
}

// Approve applies held removals, after a running pass.
func (c *Client) Approve(ctx context.Context, q RemovalsQuery, tell func(RemovalsDone)) error {
	return c.settle(ctx, "/v1/removals/approve", q, tell)
}

// Discard drops held removals: the addresses stay until a full pass misses them again.
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

// Journal visits the changes of passes, oldest pass first. It returns an error of visit.
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

// Report returns what was rejected.
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

// Compare compares the index with the directories, which takes as long as reading them. The
// error is that of directories that could not be read, or of visit.
func (c *Client) Compare(ctx context.Context, q CompareQuery, visit func(CompareEvent) error) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return receive(ctx, c, http.MethodPost, "/v1/compare", bytes.NewReader(body), visit)
}

// Export visits the list of recipients. It returns an error of visit.
func (c *Client) Export(ctx context.Context, q ExportQuery, visit func(ExportEvent) error) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return receive(ctx, c, http.MethodPost, "/v1/export", bytes.NewReader(body), visit)
}

// Verify checks the store of the daemon, which takes as long as reading it.
func (c *Client) Verify(ctx context.Context) (Verified, error) {
	var found Verified
	return found, receive(ctx, c, http.MethodPost, "/v1/verify", nil, func(v Verified) error {
		found = v
		return nil
	})
}

// Reload makes the daemon read its configuration file again. An invalid file is not an error.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	var done Reloaded
	return done, receive(ctx, c, http.MethodPost, "/v1/reload", nil, func(r Reloaded) error {
		done = r
		return nil
	})
}

// get sends a request with one JSON answer.
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

// do sends a request. It returns the error of an error response.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://control"+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", build.UserAgent())
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

// notKept is ErrNotKept with the text of the daemon.
type notKept string

func (e notKept) Error() string { return string(e) }
func (notKept) Unwrap() error   { return ErrNotKept }

// unreachable wraps ErrNotReachable with the cause and the remedy.
func (c *Client) unreachable(err error) error {
	advice := "is it running?"
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrNotExist):
		advice = "the socket does not exist; is the daemon running, with this configuration?"
	case errors.Is(err, syscall.ECONNREFUSED):
		advice = "no process listens on the socket; is it running?"
	case errors.Is(err, fs.ErrPermission):
		advice = "permission denied; run the command as root or as a member of group rcpt-milter"
	case errors.Is(err, context.DeadlineExceeded):
		advice = "timeout"
	default:
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		advice = err.Error()
	}
	return fmt.Errorf("%w at unix:%s: %s", ErrNotReachable, c.socket, advice)
}
