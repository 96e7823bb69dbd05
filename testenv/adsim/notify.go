package adsim

import (
	"slices"

	"github.com/go-ldap/ldap/v3"
)

// oidNotification is the control of a search without end that reports each object under its base
// when it changes (MS-ADTS 3.1.1.3.4.1.9).
const oidNotification = "1.2.840.113556.1.4.528"

// maxNotifications limits notification searches per connection: MaxNotificationPerConn.
const maxNotifications = 5

// watcher collects writes under a base.
type watcher struct {
	base    int32
	pending []int32       // guarded by the lock of the directory
	wake    chan struct{} // holds one
}

// watch starts to collect the writes under a base.
func (d *Directory) watch(base int32) *watcher {
	d.lock()
	defer d.mu.Unlock()
	w := &watcher{base: base, wake: make(chan struct{}, 1)}
	d.watchers = append(d.watchers, w)
	return w
}

func (d *Directory) unwatch(w *watcher) {
	d.lock()
	defer d.mu.Unlock()
	d.watchers = slices.DeleteFunc(d.watchers, func(o *watcher) bool { return o == w })
}

// notifyWatchers reports one write to the watchers. The caller holds the lock.
func (d *Directory) notifyWatchers(i int32) {
	for _, w := range d.watchers {
		if !d.within(i, w.base) {
			continue
		}
		w.pending = append(w.pending, i)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// takePending returns the writes since the last call as entries of the search.
func (d *Directory) takePending(w *watcher, req *request, maxRange int) ([]encodedEntry, error) {
	d.lock()
	defer d.mu.Unlock()
	pending := w.pending
	w.pending = nil
	var out []encodedEntry
	for _, i := range pending {
		if int(i) >= len(d.entries) || !d.visible(i, req) || !d.inScope(i, w.base, req.Scope) {
			continue
		}
		op, err := d.encode(i, req, maxRange)
		if err != nil {
			return nil, err
		}
		out = append(out, encodedEntry{d.dn(i), op})
	}
	return out, nil
}

// startNotification starts a notification search. It sends nothing until an object changes or the
// connection ends. As in Active Directory, the filter must match all objects, and scope subtree
// requires a whole naming context.
func (c *session) startNotification(id int64, req *request) error {
	faults := c.server.currentFaults()
	d := c.server.dir
	d.mu.RLock()
	base, err := d.resolve(req)
	whole := err == nil && d.entries[base].parent < 0
	d.mu.RUnlock()
	switch {
	case err != nil:
		return err
	case faults.NotifyResult != 0:
		return ldapError{faults.NotifyResult, "as the test wants it"}
	case req.Filter != "(objectClass=*)", req.Scope == ldap.ScopeWholeSubtree && !whole:
		return ldapError{ldap.LDAPResultUnwillingToPerform, "0000200D: SvcErr: DSID-0315105B, problem 5003 " +
			"(WILL_NOT_PERFORM), data 0"}
	case c.notifications == maxNotifications:
		return ldapError{ldap.LDAPResultAdminLimitExceeded, "00002024: SvcErr: DSID-0315109F, problem 5008 " +
			"(ADMIN_LIMIT_EXCEEDED), data 0"}
	}
	c.notifications++
	w := d.watch(base)
	c.server.count(func(s *Stats) { s.Notifications++ })
	c.server.running.Go(func() {
		defer d.unwatch(w)
		defer c.server.count(func(s *Stats) { s.Notifications-- })
		c.sendNotifications(id, req, w)
	})
	return nil
}

// sendNotifications sends changes until the connection ends.
func (c *session) sendNotifications(id int64, req *request, w *watcher) {
	for {
		select {
		case <-c.ended:
			return
		case <-w.wake:
		}
		entries, err := c.server.dir.takePending(w, req, c.server.config.MaxValRange)
		if err != nil || c.server.currentFaults().DropNotifications {
			continue
		}
		for _, e := range entries {
			if c.send(message(id, e.op)) != nil {
				return
			}
		}
	}
}
