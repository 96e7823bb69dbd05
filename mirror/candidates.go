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

// Candidate is one domain controller that can be connected to.
type Candidate struct {
	Name string // for logs: its URL
	Host string // the name in the URL, in lower case; empty: none is known
	View string // what the port of the URL shows, see ViewOfPort; empty: not known
	Dial func(context.Context) (Source, error)
}

const (
	// rediscoverEvery is how often at most the candidates are asked for.
	rediscoverInterval = time.Minute

	// maxRepins is how often a name that leads to several controllers is connected to
	// again for the one that is followed: a logon costs less than a full pass.
	maxHostRetries = 3

	// flapsFor is how long status warns of a name that led elsewhere.
	ambiguousHostWarning = 24 * time.Hour
)

// roster is the list of candidates, in order of preference, and which one is used. It
// belongs to the goroutine of the passes.
type controllerList struct {
	list         []Candidate
	current      int                     // which one the source belongs to, or is tried next
	lastServed   string                  // name of the one that served last
	discoveredAt time.Time               // when the list was last asked for
	hosts        map[string]*hostHistory // by the name of a candidate
}

// crossing is what was met behind the name of a candidate.
type hostHistory struct {
	host     string          // the controller there now
	view     string          // what the connection shows
	seen     map[string]bool // all that were met
	warnedAt time.Time
}

// locate makes sure of a list of candidates. One that has failed may be gone, and a
// better one may be there, so it is asked for again, now and then; while there is no
// answer the old list stands.
func (m *Mirror) discover(ctx context.Context) error {
	r, now := &m.controllers, m.config.Now()
	if m.config.Discover == nil || len(r.list) > 0 && now.Sub(r.discoveredAt).Abs() < rediscoverInterval {
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
		m.config.Log.Warn("domain controllers cannot be discovered, those known stay", "error", err)
		return nil
	case len(list) == 0:
		return cmp.Or(err, errors.New("no domain controllers were discovered"))
	case err != nil:
		m.config.Log.Warn("domain controllers may not all be discovered", "error", err)
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

// relist exchanges the list. The candidate in use stays that if it is still there;
// otherwise the one is chosen that a new connection should begin with.
func (m *Mirror) setControllers(list []Candidate) {
	r := &m.controllers
	used := ""
	if len(r.list) > 0 {
		used = m.current().Name
	}
	r.list = list
	if r.current = slices.IndexFunc(list, func(c Candidate) bool { return c.Name == used }); r.current < 0 {
		m.selectController()
	}
}

// names lists candidates, whatever their order: among equals it is drawn by lot.
func joinNames(list []Candidate) string {
	var all []string
	for _, c := range list {
		all = append(all, c.Name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// controllers are the candidates known, the one that is followed last, and its database.
func (m *Mirror) candidatesFollowedLast() ([]Candidate, directory.GUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	followed := func(c Candidate) int {
		if c.Name == m.followed.Name {
			return 1
		}
		return 0
	}
	ordered := slices.SortedStableFunc(slices.Values(m.knownCandidates), func(x, y Candidate) int { return followed(x) - followed(y) })
	return ordered, m.status.InvocationID
}

// pin goes to the candidate that leads to the controller which the cursor belongs to,
// as far as one can tell: any other costs a full pass. Where none does, to the first.
func (m *Mirror) selectController() {
	r := &m.controllers
	host := decodeCursor(m.config.Store.Directory(m.config.Name).Cursor).Host
	at := slices.IndexFunc(r.list, func(c Candidate) bool { return c.Host != "" && c.Host == host })
	if at < 0 {
		at = slices.IndexFunc(r.list, func(c Candidate) bool { return c.Name == r.lastServed })
	}
	r.current = max(at, 0)
}

// current is the candidate in use, or to be tried next.
func (m *Mirror) current() Candidate { return m.controllers.list[m.controllers.current] }

// next goes to the best candidate that was not tried; false: there is none.
func (r *controllerList) next(tried map[string]bool) bool {
	at := slices.IndexFunc(r.list, func(c Candidate) bool { return !tried[c.Name] })
	if at < 0 {
		return false
	}
	r.current = at
	return true
}

// connect makes sure of a connection, and asks who is at its other end.
func (m *Mirror) connect(ctx context.Context) (directory.Root, error) {
	if m.source != nil {
		return m.source.Root(ctx)
	}
	source, root, err := m.dial(ctx)
	if err != nil {
		return root, err
	}
	for again := 0; again < maxHostRetries && m.recordHost(root); again++ {
		other, its, err := m.dial(ctx)
		if err != nil {
			continue
		}
		source.Close()
		source, root = other, its
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

// cross notes which controller the name of the current candidate led to. It reports
// whether another one was wanted, to which the name led before.
func (m *Mirror) recordHost(root directory.Root) (astray bool) {
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

// flapped complains of a name that leads to several controllers.
func (m *Mirror) warnAmbiguousHost(name string, c *hostHistory, host string) {
	err := fmt.Errorf("%s leads now to %s and now to %s, and each change costs a full pass; name the controllers themselves in urls, or use discover", name, c.host, host)
	m.setWarning("url "+name, err, ambiguousHostWarning)
	if now := m.config.Now(); now.Sub(c.warnedAt) > time.Hour {
		c.warnedAt = now
		m.config.Log.Warn("the name of a domain controller leads to different ones", "url", name, "before", c.host, "now", host)
	}
}
