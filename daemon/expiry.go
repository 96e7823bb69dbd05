package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
)

const (
	// expiryInterval is the interval between reads of the expiry times of a directory. Passes can use one
	// connection for weeks, which reveals neither a renewed certificate nor a new password.
	expiryInterval = 24 * time.Hour
	// expiryRetry is the delay before another read after an error. After rejected credentials, the delay is
	// expiryInterval, because failed logons lock the account.
	expiryRetry = 6 * time.Hour
	// maxExpiryControllers limits the controllers that are read for one directory.
	maxExpiryControllers = 4
	// expiryTimeout limits one read.
	expiryTimeout = time.Minute
	// expirySoon is how long before an expiry the status warns. Certificates with automatic renewal are renewed
	// earlier.
	expirySoon = 14 * 24 * time.Hour
)

// expiries are the times after which a directory can no longer be read. Zero means never or unknown.
type expiries struct {
	certificate time.Time // earliest expiry in the controller's chain
	password    time.Time // expiry of the account's password
	account     time.Time
}

// expiryWatch reads the expiry times of each directory, after its first good pass and then once a day. It opens
// its own connections to the controllers that the daemon uses. It connects only after good passes, so it does
// not add failed logons to those of passes.
type expiryWatch struct {
	read   func(context.Context, config.Directory, string) (expiries, error)
	secret func(config.Directory) string // changes with the password or the keytab
	log    *slog.Logger
	now    func() time.Time
	wake   chan struct{} // wakes Run; capacity 1

	mu      sync.Mutex
	watched map[string]*watchedExpiry // by directory
}

// watchedExpiry is the state of the watch for one directory.
type watchedExpiry struct {
	config config.Directory
	urls   []string // controllers that passes and searches have connected to, most recent first
	due    bool

	tried   time.Time // start of the last read; zero means none
	wait    time.Duration
	checked time.Time // start of the last successful read
	found   expiries
	err     error // error of the last read

	secret     string // that of the last read
	rejectedBy string // the URL of the controller that rejected it; empty if none did
}

func newExpiryWatch(log *slog.Logger) *expiryWatch {
	return &expiryWatch{read: readExpiries, secret: func(d config.Directory) string { return secretDigest(d.Bind)() },
		log: log, now: time.Now, wake: make(chan struct{}, 1), watched: map[string]*watchedExpiry{}}
}

// readExpiries connects to a domain controller and reads the expiry times. If it cannot read those of the
// account, it returns an error together with the expiry of the certificate.
func readExpiries(ctx context.Context, d config.Directory, url string) (expiries, error) {
	conn, err := directory.Dial(ctx, controllerConfig(d, url))
	if err != nil {
		return expiries{}, err
	}
	defer conn.Close()
	found := expiries{certificate: firstExpiry(conn.Certificates())}
	account, err := conn.Account(ctx)
	found.password, found.account = account.PasswordExpires, account.Expires
	return found, err
}

// firstExpiry returns the earliest expiry of several certificates. It returns zero if there is none.
func firstExpiry(all []*x509.Certificate) (first time.Time) {
	for _, c := range all {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// watch wraps the candidates of a directory to record their connections.
func (w *expiryWatch) watch(d config.Directory, all []mirror.Candidate) []mirror.Candidate {
	all = slices.Clone(all)
	for i, c := range all {
		all[i].Dial = func(ctx context.Context) (mirror.Source, error) {
			source, err := c.Dial(ctx)
			if err == nil {
				w.connected(d, c.Name)
			}
			return source, err
		}
	}
	return all
}

// connected records a connection. If the configuration of the directory has changed, the watch starts again. A
// controller that had rejected the credentials accepts them now.
func (w *expiryWatch) connected(d config.Directory, url string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.watched[d.Name]
	if e == nil || !sameMirror(e.config, d) {
		e = &watchedExpiry{config: d}
		w.watched[d.Name] = e
	}
	if e.rejectedBy == url {
		e.rejectedBy, e.err = "", nil
	}
	e.urls = slices.DeleteFunc(e.urls, func(at string) bool { return at == url })
	e.urls = slices.Insert(e.urls, 0, url)
	e.urls = e.urls[:min(len(e.urls), maxExpiryControllers)]
}

// passed records a good pass. It does not wait for the read that it may trigger. A new secret after a rejected one
// is read at once.
func (w *expiryWatch) passed(name string) {
	w.mu.Lock()
	e := w.watched[name]
	if e == nil {
		w.mu.Unlock()
		return
	}
	// Abs also covers a clock that was set back.
	waits := !e.tried.IsZero() && w.now().Sub(e.tried).Abs() < e.wait
	wasRejected, tried, d := rejected(e.err), e.secret, e.config
	w.mu.Unlock()
	if waits && !(wasRejected && w.secret(d) != tried) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e.due = true
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run does the reads that are due until ctx ends.
func (w *expiryWatch) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
		for e := w.next(); e != nil && ctx.Err() == nil; e = w.next() {
			w.check(ctx, e)
		}
	}
}

// next returns a directory that is due and marks it as not due. Nil means none.
func (w *expiryWatch) next() *watchedExpiry {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.watched {
		if e.due {
			e.due, e.tried, e.wait = false, w.now(), expiryInterval
			return e
		}
	}
	return nil
}

// check reads the expiry times of one directory. It ignores a controller that cannot be read if another one
// can. After rejected credentials, it tries no other controller.
func (w *expiryWatch) check(whole context.Context, e *watchedExpiry) {
	w.mu.Lock()
	d, urls := e.config, slices.Clone(e.urls)
	w.mu.Unlock()
	secret, by := w.secret(d), "" // before the bind: a later one is new
	var found expiries
	var gone []string
	var failed error
	for _, url := range urls {
		ctx, cancel := context.WithTimeout(whole, expiryTimeout)
		at, err := w.read(ctx, d, url)
		cancel()
		found = found.first(at)
		if err != nil {
			failed, gone = err, append(gone, url)
		}
		if rejected(err) {
			by = url
			break
		}
	}
	if whole.Err() != nil {
		return
	}
	if failed != nil {
		w.log.Warn("cannot read when certificate and password expire", "directory", d.Name, "error", failed)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e.secret, e.rejectedBy = secret, by
	if len(gone) < len(urls) && !rejected(failed) {
		e.urls = slices.DeleteFunc(e.urls, func(at string) bool { return slices.Contains(gone, at) })
		e.found, e.checked, e.err = found, e.tried, nil
		return
	}
	e.err = failed
	if !rejected(failed) {
		e.wait = expiryRetry
	}
	if !found.certificate.IsZero() {
		e.found.certificate = found.certificate
	}
}

// rejected reports whether an error means that the credentials were rejected. Each further attempt may count as
// a failed logon.
func rejected(err error) bool {
	return errors.Is(err, directory.ErrCredentials) || errors.Is(err, directory.ErrSecret)
}

// first returns the earlier of each pair of times.
func (x expiries) first(other expiries) expiries {
	earlier := func(a, b time.Time) time.Time {
		if a.IsZero() || !b.IsZero() && b.Before(a) {
			return b
		}
		return a
	}
	return expiries{earlier(x.certificate, other.certificate), earlier(x.password, other.password),
		earlier(x.account, other.account)}
}

// addTo adds the expiry times to the status of each directory, with a warning if one is near.
func (w *expiryWatch) addTo(directories []control.DirectoryStatus, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range directories {
		d := &directories[i]
		e := w.watched[d.Name]
		if e == nil || d.State == control.Retired || d.Stream != nil || e.tried.IsZero() {
			continue
		}
		d.Expiry = &control.ExpiryStatus{Checked: control.Time{Time: e.checked}, LastError: errorText(e.err),
			Certificate: control.Time{Time: e.found.certificate}, Password: control.Time{Time: e.found.password},
			Account: control.Time{Time: e.found.account}}
		d.Warnings = append(d.Warnings, e.found.warnings(now)...)
		if errors.Is(e.err, directory.ErrCredentials) {
			d.Warnings = append(d.Warnings, "the current connection stays, but no new one can be made: "+e.err.Error())
		}
	}
}

// warnings returns a sentence for each time that is near or past.
func (x expiries) warnings(now time.Time) (all []string) {
	for _, each := range []struct {
		at           time.Time
		what, remedy string
	}{
		{x.certificate, "the certificate of the domain controller, or of its authority,",
			"renew it; rcpt-milter check --live names it"},
		{x.password, "the password of the account", `set "password never expires", or change it and its file in time`},
		{x.account, "the account", "extend it"},
	} {
		if !each.at.IsZero() && each.at.Sub(now) < expirySoon {
			all = append(all, fmt.Sprintf("%s expires on %s, and then no connection can be made; %s", each.what,
				each.at.UTC().Format(time.DateOnly), each.remedy))
		}
	}
	return all
}
