package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rcpt-milter/directory"
)

// Candidate is a domain controller that the mirror can connect to.
type Candidate struct {
	Name string // its URL, for logs
	Host string // host name of the URL in lower case; empty if unknown
	View string // what the port of the URL shows, see ViewOfPort; empty if unknown
	Dial func(context.Context) (Source, error)
}

const (
	// rediscoverInterval is the shortest interval between two discoveries.
	rediscoverInterval = time.Minute

	// maxHostRetries limits how often a name that leads to several controllers is dialed again to reach the
	// followed one. A logon is cheaper than a full pass.
	maxHostRetries = 3

	// ambiguousHostWarning is how long the status shows the warning of warnAmbiguousHost.
	ambiguousHostWarning = 24 * time.Hour
)

// controllerList is the list of candidates in order of preference, and the position of the
// current one. Only the goroutine of the passes uses it.
type controllerList struct {
	list         []Candidate
	current      int                     // the candidate that the source belongs to, or the next one to try
	lastServed   string                  // name of the candidate of the last good pass
	discoveredAt time.Time               // time of the last discovery
	hosts        map[string]*hostHistory // by name of candidate
}

// hostHistory records the controllers that the name of a candidate has led to.
type hostHistory struct {
	host     string          // the controller of the last connection
	view     string          // what that connection showed
	seen     map[string]bool // all controllers so far
	warnedAt time.Time
}

// discover ensures that there are candidates. It repeats the discovery at intervals, because a failed candidate
// may be gone and a better one may exist. If discovery fails, the old list stays.
func (m *Mirror) discover(ctx context.Context) error {
	r, now := &m.controllers, m.config.Now()
	if m.config.Discover == nil || len(r.list) > 0 && !isOver(r.discoveredAt, now, rediscoverInterval) {
		return nil
	}
	r.discoveredAt = now
	list, err := m.config.Discover(ctx)
	if ctx.Err() != nil {
		return fmt.Errorf("given up: %w", ctx.Err())
	}
	m.setWarning("discovery", err, time.Hour)
	switch {
	case err != nil && len(r.list) > 0:
		m.config.Log.Warn("cannot discover domain controllers, keeping the known ones", "error", err)
		return nil
	case len(list) == 0:
		return cmp.Or(err, errors.New("no domain controllers discovered"))
	case err != nil:
		m.config.Log.Warn("discovery of domain controllers may be incomplete", "error", err)
	}
	if joinNames(list) != joinNames(r.list) {
		m.config.Log.Info("domain controllers discovered", "controllers", joinNames(list))
	}
	m.setControllers(list)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.knownCandidates = list
	return nil
}

// setControllers replaces the list. The current candidate stays current if it is in the new list. Otherwise
// selectController chooses another one.
func (m *Mirror) setControllers(list []Candidate) {
	l := &m.controllers
	used := ""
	if len(l.list) > 0 {
		used = m.current().Name
	}
	l.list = list
	if l.current = slices.IndexFunc(list, func(c Candidate) bool { return c.Name == used }); l.current < 0 {
		m.selectController()
	}
}

// joinNames lists candidates by name, sorted, because discovery returns equal candidates in random order.
func joinNames(list []Candidate) string {
	var all []string
	for _, c := range list {
		all = append(all, c.Name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// candidatesFollowedLast returns the known candidates with the followed one at the end, and
// the invocation ID of its database.
func (m *Mirror) candidatesFollowedLast() ([]Candidate, directory.GUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	followed := func(c Candidate) int {
		if c.Name == m.followed.Name {
			return 1
		}
		return 0
	}
	byFollowed := func(x, y Candidate) int { return followed(x) - followed(y) }
	return slices.SortedStableFunc(slices.Values(m.knownCandidates), byFollowed), m.status.InvocationID
}

// selectController selects the candidate that leads to the controller of the cursor, because any other one
// requires a full pass. If no such candidate is known, it selects the first.
func (m *Mirror) selectController() {
	l := &m.controllers
	host := decodeCursor(m.config.Store.Directory(m.config.Name).Cursor).Host
	at := slices.IndexFunc(l.list, func(c Candidate) bool { return c.Host != "" && c.Host == host })
	if at < 0 {
		at = slices.IndexFunc(l.list, func(c Candidate) bool { return c.Name == l.lastServed })
	}
	l.current = max(at, 0)
}

// current returns the candidate in use, or the next one to try.
func (m *Mirror) current() Candidate { return m.controllers.list[m.controllers.current] }

// next selects the first candidate that has not been tried. It reports false if there is none.
func (l *controllerList) next(tried map[string]bool) bool {
	at := slices.IndexFunc(l.list, func(c Candidate) bool { return !tried[c.Name] })
	if at < 0 {
		return false
	}
	l.current = at
	return true
}

// connect ensures that there is a connection, and reads the rootDSE.
func (m *Mirror) connect(ctx context.Context) (directory.Root, error) {
	if m.source != nil {
		return m.source.Root(ctx)
	}
	source, root, err := m.dial(ctx)
	if err != nil {
		return root, err
	}
	for retry := 0; retry < maxHostRetries && m.recordHost(root); retry++ {
		newSource, newRoot, err := m.dial(ctx)
		if err != nil {
			continue
		}
		source.Close()
		source, root = newSource, newRoot
	}
	m.recordHost(root)
	m.source = source
	m.signalReached()
	return root, nil
}

// dial connects to the current candidate.
func (m *Mirror) dial(ctx context.Context) (Source, directory.Root, error) {
	source, err := m.open(ctx, m.current())
	if err != nil {
		return nil, directory.Root{}, err
	}
	root, err := source.Root(ctx)
	if err != nil {
		source.Close()
		return nil, directory.Root{}, err
	}
	return source, root, nil
}

// recordHost records the controller that the name of the current candidate led to. It reports whether the
// cursor belongs to another controller that the same name has led to before.
func (m *Mirror) recordHost(root directory.Root) (wrongHost bool) {
	name := m.current().Name
	c := m.controllers.hosts[name]
	if c == nil {
		c = &hostHistory{host: root.DNSHostName, seen: map[string]bool{}}
		m.controllers.hosts[name] = c
	}
	c.seen[root.DNSHostName], c.view = true, viewOf(root)
	if c.host != root.DNSHostName {
		m.warnAmbiguousHost(name, c, root.DNSHostName)
	}
	c.host = root.DNSHostName
	wanted := decodeCursor(m.config.Store.Directory(m.config.Name).Cursor).Host
	return wanted != root.DNSHostName && c.seen[wanted]
}

// warnAmbiguousHost warns that a name leads to several controllers.
func (m *Mirror) warnAmbiguousHost(name string, c *hostHistory, host string) {
	err := fmt.Errorf("%s leads to %s or to %s, and each change costs a full pass; "+
		"name the controllers themselves in urls, or use discover", name, c.host, host)
	m.setWarning("url "+name, err, ambiguousHostWarning)
	if now := m.config.Now(); isOver(c.warnedAt, now, time.Hour) {
		c.warnedAt = now
		m.config.Log.Warn("one name leads to several domain controllers", "url", name, "before", c.host, "now", host)
	}
}
