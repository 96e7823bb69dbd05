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
	// expiryInterval is how often what expires is read: a connection of passes may last for weeks, and
	// shows neither a renewed certificate nor a new password.
	expiryInterval = 24 * time.Hour
	// expiryRetry is how long after an error it is read again. Rejected credentials wait for
	// expiryInterval, because failed logons lock the account.
	expiryRetry = 6 * time.Hour
	// maxExpiryControllers limits the controllers of a directory that are read.
	maxExpiryControllers = 4
	// expiryTimeout limits one read.
	expiryTimeout = time.Minute
	// expirySoon is how long before an expiry status warns. Certificates that renew themselves do so
	// earlier.
	expirySoon = 14 * 24 * time.Hour
)

// expiries are the times at which a directory can no longer be read. A zero time means never, or
// not known.
type expiries struct {
	certificate time.Time // the first one of the controller's chain
	password    time.Time // of the account
	account     time.Time
}

// expiryWatch reads what expires of each directory, over connections of its own to the controllers
// that the daemon uses: after the first good pass, and then once a day. It connects after good passes
// only, so it never adds failed logons to those of a pass.
type expiryWatch struct {
	read func(context.Context, config.Directory, string) (expiries, error)
	log  *slog.Logger
	now  func() time.Time
	wake chan struct{} // something is due; has room for one

	mu      sync.Mutex
	watched map[string]*watchedExpiry // by directory
}

// watchedExpiry is what the watch knows of a directory.
type watchedExpiry struct {
	config config.Directory
	urls   []string // of the controllers that passes and searches connected to, the last one first
	due    bool

	tried   time.Time // start of the last read; zero means none
	wait    time.Duration
	checked time.Time // start of the last good read
	found   expiries
	err     error // of the last read
}

func newExpiryWatch(log *slog.Logger) *expiryWatch {
	return &expiryWatch{read: readExpiries, log: log, now: time.Now, wake: make(chan struct{}, 1),
		watched: map[string]*watchedExpiry{}}
}

// readExpiries connects to a domain controller. With an error about the account it returns the
// expiry of the certificate.
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

// firstExpiry returns when the first of several certificates expires; zero if there is none.
func firstExpiry(all []*x509.Certificate) (first time.Time) {
	for _, c := range all {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// watch returns the candidates of a directory, whose connections it records.
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

// connected records a connection. Another configuration of the directory is read anew.
func (w *expiryWatch) connected(d config.Directory, url string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.watched[d.Name]
	if e == nil || !sameMirror(e.config, d) {
		e = &watchedExpiry{config: d}
		w.watched[d.Name] = e
	}
	e.urls = slices.DeleteFunc(e.urls, func(at string) bool { return at == url })
	e.urls = slices.Insert(e.urls, 0, url)
	e.urls = e.urls[:min(len(e.urls), maxExpiryControllers)]
}

// passed records a good pass. It does not wait for the read that may be due.
func (w *expiryWatch) passed(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.watched[name]
	if e == nil {
		return
	}
	// A clock that was set back counts like one that was set forward.
	if !e.tried.IsZero() && w.now().Sub(e.tried).Abs() < e.wait {
		return
	}
	e.due = true
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run reads what is due until ctx ends.
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

// next takes a directory that is due; nil means none.
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

// check reads what expires of one directory. A controller that cannot be read is left out while
// another one can be. After rejected credentials no other controller is tried.
func (w *expiryWatch) check(whole context.Context, e *watchedExpiry) {
	w.mu.Lock()
	d, urls := e.config, slices.Clone(e.urls)
	w.mu.Unlock()
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

// rejected reports whether an error means that the credentials do not work. Each further attempt
// may count as a failed logon.
func rejected(err error) bool {
	return errors.Is(err, directory.ErrCredentials) || errors.Is(err, directory.ErrSecret)
}

// first returns the first of the times of both.
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

// addTo adds what expires to the status of each directory, and warns of what expires soon.
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
			d.Warnings = append(d.Warnings, "the connection that exists stays, and no other can be made: "+e.err.Error())
		}
	}
}

// warnings returns a sentence about each time that is near or past.
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
