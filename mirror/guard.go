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

// Guard decides which removals look like an accident rather than like ordinary departures.
// It counts over a window, because a script that deletes a few objects between two passes
// is no better than one that deletes all at once.
type Guard struct {
	Percent float64       // of the addresses of the directory, together with Count
	Count   int           // addresses, together with Percent
	Max     int           // addresses, whatever the percentage; zero switches the guard off
	Share   float64       // percent of the addresses of the directory or of a guarded domain; zero means no limit
	Window  time.Duration // over which removals are counted
}

// minShareRemovals is the number of removals from which Share applies: one of two people
// may leave.
const minShareRemovals = 3

// losses are the removals of a pass, and the earlier ones in the window.
type losses struct {
	pending store.Pending
	recent  int                   // removed in the window without an approval
	owned   int64                 // addresses of the directory before the pass, without recent
	domains map[string]domainLoss // guarded domains that would lose an address
	empty   bool                  // a full pass saw no object with an address
	canary  string                // a canary that would be removed; empty if none
}

// domainLoss is what a domain would lose, and what it has lost in the window.
type domainLoss struct {
	pending int   // addresses to be lost, for all or for outside senders
	recent  int   // addresses lost in the window without an approval
	known   int64 // addresses of all directories before the pass, without recent
}

// heldRemovals is the decision of the guard. The zero value holds nothing.
type heldRemovals struct {
	reason  string             // in one line; empty if nothing is held
	domains []store.HeldDomain // if not empty, only the removals of these domains are held
}

// reasonEmpty is the reason after a full pass without any address. The store keeps it, so a
// change of the text would release removals.
const reasonEmpty = "a full pass saw no object with an address; " +
	"check the rights of the bind account, bases and address_attributes"

// judge decides which removals are held. It is a pure function. A reason that concerns one
// domain holds only the removals of that domain.
func (g Guard) judge(l losses) heldRemovals {
	if l.pending.Owned == 0 {
		return heldRemovals{}
	}
	if l.canary != "" { // this also applies while the guard is off
		return heldRemovals{reason: fmt.Sprintf("canary %s (canaries.accept) would be removed", l.canary)}
	}
	if g.Max == 0 {
		return heldRemovals{}
	}
	if why := g.judgeDirectory(l); why != "" {
		return heldRemovals{reason: why}
	}
	var held []store.HeldDomain
	for _, domain := range slices.Sorted(maps.Keys(l.domains)) {
		if why := g.judgeDomain(domain, l.domains[domain]); why != "" {
			held = append(held, store.HeldDomain{Domain: domain, Why: why})
		}
	}
	return holdDomains(held)
}

// judgeDirectory returns why all removals are held; empty if they are not.
func (g Guard) judgeDirectory(l losses) string {
	if l.empty {
		return reasonEmpty
	}
	sum := l.recent + l.pending.Owned
	share := percentOf(sum, l.owned+int64(l.recent))
	switch {
	case sum > g.Max:
		return fmt.Sprintf("%d addresses would have gone within %s, which is more than removal_guard.max (%d)",
			sum, shortDuration(g.Window), g.Max)
	case sum > g.Count && share > g.Percent:
		return fmt.Sprintf("%d addresses (%.1f %% of the directory) would have gone within %s, "+
			"which is more than removal_guard.count (%d) and percent (%g)",
			sum, share, shortDuration(g.Window), g.Count, g.Percent)
	case g.exceedsShare(sum, share):
		return fmt.Sprintf("%d addresses (%.1f %% of the directory) would have gone within %s, "+
			"which is more than removal_guard.share (%g)",
			sum, share, shortDuration(g.Window), g.Share)
	}
	return ""
}

// judgeDomain returns why the removals of a guarded domain are held; empty if they are not.
func (g Guard) judgeDomain(domain string, l domainLoss) string {
	sum := l.recent + l.pending
	share := percentOf(sum, l.known+int64(l.recent))
	switch {
	case l.pending > 0 && int64(l.pending) >= l.known:
		return fmt.Sprintf("no address of the domain %s would be left", domain)
	case g.exceedsShare(sum, share):
		return fmt.Sprintf("%d addresses (%.1f %% of the domain %s) would have gone within %s, "+
			"which is more than removal_guard.share (%g)",
			sum, share, domain, shortDuration(g.Window), g.Share)
	}
	return ""
}

func (g Guard) exceedsShare(sum int, share float64) bool {
	return g.Share > 0 && sum >= minShareRemovals && share > g.Share
}

func percentOf(part int, whole int64) float64 { return 100 * float64(part) / float64(max(whole, 1)) }

// maxReasons is the number of domains that the reason names.
const maxReasons = 3

// holdDomains holds the removals of some domains. If the store cannot keep so many, all are held.
func holdDomains(held []store.HeldDomain) heldRemovals {
	if len(held) == 0 {
		return heldRemovals{}
	}
	var reasons []string
	for _, d := range held[:min(len(held), maxReasons)] {
		reasons = append(reasons, d.Why)
	}
	if more := len(held) - maxReasons; more > 0 {
		reasons = append(reasons, fmt.Sprintf("the same for %d more domains", more))
	}
	h := heldRemovals{reason: strings.Join(reasons, "; "), domains: held}
	if len(held) > store.MaxHeldDomains {
		h.domains = nil
	}
	return h
}

// releases reports whether any pending removal takes effect.
func (h heldRemovals) releases(p store.Pending) bool {
	if len(h.domains) == 0 {
		return h.reason == "" && len(p.Domains) > 0
	}
	held := make(map[string]bool, len(h.domains))
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

// isNew reports whether something is held that was not held before.
func (h heldRemovals) isNew(before store.Directory) bool {
	if h.reason == "" || before.Hold == "" {
		return h.reason != ""
	}
	if len(h.domains) == 0 {
		return len(before.HeldDomains) > 0
	}
	return slices.ContainsFunc(h.domains, func(d store.HeldDomain) bool { return before.Holds(d.Domain) == "" })
}

// maxLoggedDomains is the number of held domains that the log names.
const maxLoggedDomains = 20

// log logs removals that are held and were not held before.
func (h heldRemovals) log(log *slog.Logger, before store.Directory, pending store.Pending) {
	if !h.isNew(before) {
		return
	}
	attributes := []any{"why", h.reason, "addresses", pending.Owned, "objects", pending.Objects}
	if len(h.domains) > 0 {
		var names []string
		for _, d := range h.domains[:min(len(h.domains), maxLoggedDomains)] {
			names = append(names, d.Domain)
		}
		attributes = append(attributes, "domains", names)
	}
	log.Error("removals held back; see `rcpt-milter removals`, then approve or discard them", attributes...)
}

// losses collects what the guard judges of a directory, living or retired: what is pending, and
// what it lost without an approval in the window that ends when the pass started. recent counts
// addresses that are still lost.
func (g Guard) losses(
	s *store.Store, before store.Directory, pending store.Pending, guarded func(string) bool, started, now time.Time,
) (losses, error) {
	l := losses{pending: pending, owned: before.Owned}
	if g.Max > 0 {
		lost, err := s.LostBy(before.Name, started.Add(-g.Window), now)
		if err != nil {
			return losses{}, err
		}
		l.recent, l.owned = lost.Addresses, before.Owned-int64(lost.Known)
	}
	var err error
	l.domains, err = g.domainLosses(s, pending, guarded, now)
	return l, err
}

// domainLosses returns the losses of the guarded domains that would lose an address. If
// guarded is nil, every domain is guarded.
func (g Guard) domainLosses(
	s *store.Store, p store.Pending, guarded func(domain string) bool, now time.Time,
) (map[string]domainLoss, error) {
	losses := map[string]domainLoss{}
	for domain, loss := range p.Domains {
		if loss.Last > 0 && (guarded == nil || guarded(domain)) {
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

// shortDuration formats a duration without zero units: 24h, not 24h0m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// firstLostCanary returns the first canary that would be removed; empty if none.
func firstLostCanary(pass *store.Pass, canaries []address.Address) (string, error) {
	for _, a := range canaries {
		if lost, err := pass.WouldLose(a); err != nil || lost {
			return a.String(), err
		}
	}
	return "", nil
}

// applyGuard asks the guard and commits the pass.
func (r *passRun) applyGuard(next cursor, encoded []byte) error {
	held, err := r.hold()
	if err != nil {
		return err
	}
	if r.m.afterGuard != nil {
		r.m.afterGuard()
	}
	r.info, err = r.pass.Commit(store.Outcome{Cursor: encoded, USN: next.USN,
		Hold: held.reason, HoldDomains: held.domains, Fingerprint: r.m.fingerprint, Ended: r.m.config.Now()})
	return err
}

// hold asks the guard about a pass that has read everything.
func (r *passRun) hold() (heldRemovals, error) {
	m := r.m
	before := m.config.Store.Directory(m.config.Name)
	if before.Marked == 0 {
		return heldRemovals{}, nil
	}
	if why, err := r.holdHidden(); err != nil || why != "" {
		return heldRemovals{reason: why}, err
	}
	pending, err := r.pass.Pending()
	if err != nil {
		return heldRemovals{}, err
	}
	limits, guard, s := m.limits.Load(), m.config.Guard, m.config.Store
	l, err := guard.losses(s, before, pending, limits.Guarded, r.started, m.config.Now())
	if err != nil {
		return heldRemovals{}, err
	}
	if l.canary, err = firstLostCanary(r.pass, limits.Canaries); err != nil {
		return heldRemovals{}, err
	}
	// An object that loses an address is a removal, also if the address has another owner or
	// has come back.
	if l.recent, err = s.RemovedBetween(m.config.Name, r.started.Add(-guard.Window), r.started); err != nil {
		return heldRemovals{}, err
	}
	l.empty = r.owners == 0
	if r.kind == store.Incremental { // it has seen nothing that proves otherwise
		l.empty = before.Hold == reasonEmpty
	}
	h := guard.judge(l)
	if h.reason == "" && l.empty && guard.Max > 0 { // all removals are still pending, and are held at once
		h.reason = reasonEmpty
	}
	h.log(m.config.Log, before, pending)
	return h, nil
}
