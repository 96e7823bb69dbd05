package mirror

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// Guard says when removals look like an accident rather than like people leaving. It
// counts over a window, because a script that deletes a few objects between any two
// passes is no better than one that deletes them all at once.
type Guard struct {
	Percent float64       // of the addresses of the directory, together with Count
	Count   int           // addresses, together with Percent
	Max     int           // addresses, whatever the percentage; zero switches the guard off
	Share   float64       // percent of the addresses of the directory or of one judged domain; zero means no limit
	Window  time.Duration // over which removals count
}

// shareFrom is how many removals Share takes at least: one of two people may leave.
const shareFrom = 3

// losses is what a pass would remove, and what was removed before it.
type losses struct {
	pending store.Pending
	recent  int                   // removed in the window, unless somebody approved it
	owned   int64                 // addresses of the directory before the pass, without recent ones
	domains map[string]domainLoss // judged domains that would lose an address
	nobody  bool                  // a full pass that saw no object with an address
	canary  string                // an address that must never go, and would; empty: none
}

// domainLoss is what a domain would lose, and what it lost before.
type domainLoss struct {
	pending int   // addresses that would be lost, to all or to outside senders
	recent  int   // addresses that were lost in the window, unless an operator approved it
	known   int64 // addresses before the pass, of all directories, without recent ones
}

// holding is what the guard holds back. The zero value holds nothing.
type holding struct {
	why     string             // in one line; empty: nothing is held
	domains []store.HeldDomain // the only domains whose removals are held; none: all removals are
}

// sawNobody is why removals are held after a full pass without anybody in it.
const sawNobody = "a full pass saw no object with an address; check the rights of the bind account, bases and address_attributes"

// judge decides what to hold back. It is a pure function. A reason that concerns one
// domain holds the removals of that domain only.
func (g Guard) judge(l losses) holding {
	if l.pending.Owned == 0 {
		return holding{}
	}
	if l.canary != "" { // whoever named one meant it, with the guard off too
		return holding{why: fmt.Sprintf("%s would go, which canaries.accept names", l.canary)}
	}
	if g.Max == 0 {
		return holding{}
	}
	if why := g.judgeDirectory(l); why != "" {
		return holding{why: why}
	}
	var held []store.HeldDomain
	for _, domain := range slices.Sorted(maps.Keys(l.domains)) {
		if why := g.judgeDomain(domain, l.domains[domain]); why != "" {
			held = append(held, store.HeldDomain{Domain: domain, Why: why})
		}
	}
	return holdingOf(held)
}

// judgeDirectory returns why all removals are held; empty: they are not.
func (g Guard) judgeDirectory(l losses) string {
	if l.nobody {
		return sawNobody
	}
	sum := l.recent + l.pending.Owned
	share := percentOf(sum, l.owned+int64(l.recent))
	switch {
	case sum > g.Max:
		return fmt.Sprintf("%d addresses would have gone within %s, which is more than removal_guard.max (%d)", sum, plainly(g.Window), g.Max)
	case sum > g.Count && share > g.Percent:
		return fmt.Sprintf("%d addresses (%.1f %% of the directory) would have gone within %s, which is more than removal_guard.count (%d) and percent (%g)",
			sum, share, plainly(g.Window), g.Count, g.Percent)
	case g.exceedsShare(sum, share):
		return fmt.Sprintf("%d addresses (%.1f %% of the directory) would have gone within %s, which is more than removal_guard.share (%g)",
			sum, share, plainly(g.Window), g.Share)
	}
	return ""
}

// judgeDomain returns why the removals of a judged domain are held; empty: they are not.
func (g Guard) judgeDomain(domain string, l domainLoss) string {
	sum := l.recent + l.pending
	share := percentOf(sum, l.known+int64(l.recent))
	switch {
	case l.pending > 0 && int64(l.pending) >= l.known:
		return fmt.Sprintf("no address of the domain %s would be left", domain)
	case g.exceedsShare(sum, share):
		return fmt.Sprintf("%d addresses (%.1f %% of the domain %s) would have gone within %s, which is more than removal_guard.share (%g)",
			sum, share, domain, plainly(g.Window), g.Share)
	}
	return ""
}

func (g Guard) exceedsShare(sum int, share float64) bool {
	return g.Share > 0 && sum >= shareFrom && share > g.Share
}

func percentOf(part int, whole int64) float64 { return 100 * float64(part) / float64(max(whole, 1)) }

// reasonsShown is how many domains the reason of a holding names.
const reasonsShown = 3

// holdingOf holds the removals of some domains, or all where the store does not keep so
// many domains.
func holdingOf(held []store.HeldDomain) holding {
	if len(held) == 0 {
		return holding{}
	}
	var reasons []string
	for _, d := range held[:min(len(held), reasonsShown)] {
		reasons = append(reasons, d.Why)
	}
	if more := len(held) - reasonsShown; more > 0 {
		reasons = append(reasons, fmt.Sprintf("the same of %d more domains", more))
	}
	h := holding{why: strings.Join(reasons, "; "), domains: held}
	if len(held) > store.MaxHeldDomains {
		h.domains = nil
	}
	return h
}

// releases reports whether something of what is pending goes.
func (h holding) releases(p store.Pending) bool {
	if len(h.domains) == 0 {
		return h.why == "" && len(p.Domains) > 0
	}
	held := map[string]bool{}
	for _, d := range h.domains {
		held[d.Domain] = true
	}
	for domain := range p.Domains {
		if !held[domain] {
			return true
		}
	}
	return false
}

// isNews reports whether something is held that was not held before.
func (h holding) isNews(before store.Directory) bool {
	if h.why == "" || before.Hold == "" {
		return h.why != ""
	}
	if len(h.domains) == 0 {
		return len(before.HeldDomains) > 0
	}
	return slices.ContainsFunc(h.domains, func(d store.HeldDomain) bool { return before.Holds(d.Domain) == "" })
}

// tell logs what is held and was not before.
func (h holding) tell(log *slog.Logger, before store.Directory, pending store.Pending) {
	if !h.isNews(before) {
		return
	}
	attributes := []any{"why", h.why, "addresses", pending.Owned, "objects", pending.Objects}
	if len(h.domains) > 0 {
		var names []string
		for _, d := range h.domains {
			names = append(names, d.Domain)
		}
		attributes = append(attributes, "domains", names)
	}
	log.Error("removals held back: look at `rcpt-milter removals`, then approve or discard them", attributes...)
}

// domainLosses reads what the guard has to know of the judged domains that would lose an
// address. A nil judged judges every domain.
func (g Guard) domainLosses(s *store.Store, p store.Pending, judged func(domain string) bool, now time.Time) (map[string]domainLoss, error) {
	losses := map[string]domainLoss{}
	for domain, loss := range p.Domains {
		if loss.Last > 0 && (judged == nil || judged(domain)) {
			losses[domain] = domainLoss{pending: loss.Last, known: s.DomainAddresses(domain)}
		}
	}
	if g.Share == 0 || g.Max == 0 {
		return losses, nil
	}
	recent, err := s.LostSince(now.Add(-g.Window), now, slices.Collect(maps.Keys(losses)))
	if err != nil {
		return nil, err
	}
	for domain, n := range recent {
		l := losses[domain]
		l.recent, l.known = n.Addresses, l.known-int64(n.Known)
		losses[domain] = l
	}
	return losses, nil
}

// plainly is a duration without its zeros: 24h, not 24h0m0s.
func plainly(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// firstLost is the first of the addresses that would go; empty: none.
func firstLost(pass *store.Pass, canaries []address.Address) (string, error) {
	for _, a := range canaries {
		if lost, err := pass.WouldLose(a); err != nil || lost {
			return a.String(), err
		}
	}
	return "", nil
}

// decide asks the guard, and commits the pass.
func (r *reading) decide(next cursor, encoded []byte) error {
	held, err := r.hold()
	if err != nil {
		return err
	}
	if r.m.judged != nil {
		r.m.judged()
	}
	r.info, err = r.pass.Commit(store.Outcome{Cursor: encoded, USN: next.USN, Hold: held.why, HoldDomains: held.domains,
		Fingerprint: r.m.fingerprint, Ended: r.m.config.Now()})
	return err
}

// hold asks the guard about a pass that has read everything it had to.
func (r *reading) hold() (holding, error) {
	m := r.m
	before := m.config.Store.Directory(m.config.Name)
	if before.Marked == 0 {
		return holding{}, nil
	}
	if why, err := r.holdHidden(); err != nil || why != "" {
		return holding{why: why}, err
	}
	pending, err := r.pass.Pending()
	if err != nil {
		return holding{}, err
	}
	limits := m.limits.Load()
	canary, err := firstLost(r.pass, limits.Canaries)
	if err != nil {
		return holding{}, err
	}
	recent, err := m.config.Store.RemovedBetween(m.config.Name, r.started.Add(-m.config.Guard.Window), r.started)
	if err != nil {
		return holding{}, err
	}
	var lost store.Lost
	if m.config.Guard.Max > 0 {
		lost, err = m.config.Store.LostBy(m.config.Name, r.started.Add(-m.config.Guard.Window), m.config.Now())
	}
	if err != nil {
		return holding{}, err
	}
	domains, err := m.config.Guard.domainLosses(m.config.Store, pending, limits.Judged, m.config.Now())
	if err != nil {
		return holding{}, err
	}
	nobody := r.owners == 0
	if r.kind == store.Incremental { // nothing has come to tell otherwise
		nobody = before.Hold == sawNobody
	}
	h := m.config.Guard.judge(losses{nobody: nobody, pending: pending, recent: recent, owned: before.Owned - int64(lost.Known),
		domains: domains, canary: canary})
	if h.why == "" && nobody && m.config.Guard.Max > 0 { // all of it still waits, and is held at once
		h.why = sawNobody
	}
	h.tell(m.config.Log, before, pending)
	return h, nil
}
