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

// Guard decides which removals look like an accident rather than ordinary departures. It counts over a window,
// because a script that deletes a few objects between passes is as harmful as one that deletes all at once.
type Guard struct {
	Percent float64       // percent of the addresses of the directory, combined with Count
	Count   int           // number of addresses, combined with Percent
	Max     int           // number of addresses, regardless of percentage; zero disables the guard
	Share   float64       // percent of the addresses of the directory or of a guarded domain; zero means no limit
	Window  time.Duration // period over which removals are counted
}

// minShareRemovals is the number of removals from which Share applies, because one of two people may leave.
const minShareRemovals = 3

// losses are the removals of a pass, together with earlier ones in the window.
type losses struct {
	pending store.Pending
	recent  int                   // addresses removed in the window without an approval
	owned   int64                 // addresses of the directory before the pass, not counting recent
	domains map[string]domainLoss // guarded domains that would lose addresses
	empty   bool                  // a full pass saw no object with an address
	canary  string                // a canary that would be removed; empty means none
}

// domainLoss describes what a domain would lose, and what it has lost in the window.
type domainLoss struct {
	pending int   // addresses that would be lost, for all senders or for outside senders
	recent  int   // addresses lost in the window without an approval
	known   int64 // addresses in all directories before the pass, not counting recent
}

// heldRemovals is the decision of the guard. The zero value holds nothing.
type heldRemovals struct {
	reason  string             // one line; empty if nothing is held
	domains []store.HeldDomain // if not empty, only the removals of these domains are held
	empty   bool               // a full pass saw no object with an address, whatever the reason says
}

// reasonEmpty is the reason after a full pass without any address.
const reasonEmpty = "a full pass saw no object with an address; " +
	"check the rights of the bind account, bases and address_attributes"

// judge decides which removals are held. It is a pure function. A reason about one domain holds only the
// removals of that domain.
func (g Guard) judge(l losses) heldRemovals {
	if l.pending.Owned == 0 {
		return heldRemovals{}
	}
	if l.canary != "" { // applies even if the guard is disabled
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

// judgeDirectory returns why all removals are held, or an empty string.
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

// judgeDomain returns why the removals of a guarded domain are held, or an empty string.
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

// maxReasons limits the domains that a reason names.
const maxReasons = 3

// holdDomains holds the removals of some domains. If the store cannot keep that many domains, it holds all
// removals.
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

// releases reports whether any of the pending removals takes effect.
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

// maxLoggedDomains limits the held domains that the log names.
const maxLoggedDomains = 20

// log logs removals that are held now and were not held before.
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

// losses collects the input of the guard for a directory, active or retired: the pending removals, and the
// addresses that were lost without an approval since the beginning of the window. recent counts only addresses
// that are still lost.
func (g Guard) losses(
	s *store.Store, before store.Directory, pending store.Pending, guarded func(string) bool, since, now time.Time,
) (losses, error) {
	l := losses{pending: pending, owned: before.Owned}
	if g.Max > 0 {
		lost, err := s.LostBy(before.Name, since, now)
		if err != nil {
			return losses{}, err
		}
		l.recent, l.owned = lost.Addresses, before.Owned-int64(lost.Known)
	}
	var err error
	l.domains, err = g.domainLosses(s, pending, guarded, since, now)
	return l, err
}

// domainLosses returns the losses of the guarded domains that would lose an address. If guarded is nil, every
// domain is guarded.
func (g Guard) domainLosses(
	s *store.Store, p store.Pending, guarded func(domain string) bool, since, now time.Time,
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
	recent, err := s.LostSince(since, now, slices.Collect(maps.Keys(losses)))
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

// shortDuration formats a duration without zero units: 24h instead of 24h0m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// firstLostCanary returns the first canary that would be removed, or an empty string. Nil means no canaries.
func firstLostCanary(pass *store.Pass, canaries func() []address.Address) (string, error) {
	if canaries == nil {
		return "", nil
	}
	for _, a := range canaries() {
		if lost, err := pass.WouldLose(a); err != nil || lost {
			return a.String(), err
		}
	}
	return "", nil
}
