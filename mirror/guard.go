package mirror

import (
	"fmt"
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
	Window  time.Duration // over which removals count
}

// losses is what a pass would remove, and what was removed before it.
type losses struct {
	pending store.Pending
	recent  int              // removed in the window, unless somebody approved it
	owned   int64            // addresses of the directory before the pass
	domains map[string]int64 // addresses by domain, of all directories
	nobody  bool             // a full pass that saw no object with an address
	canary  string           // an address that must never go, and would; empty: none
}

// sawNobody is why removals are held after a full pass without anybody in it.
const sawNobody = "a full pass saw no object with an address; check the rights of the bind account, bases and address_attributes"

// judge is the reason to hold removals back, empty where they may go. It is a pure
// function.
func (g Guard) judge(l losses) string {
	if l.pending.Owned == 0 {
		return ""
	}
	if l.canary != "" { // whoever named one meant it, with the guard off too
		return fmt.Sprintf("%s would go, which canaries.accept names", l.canary)
	}
	if g.Max == 0 {
		return ""
	}
	if l.nobody {
		return sawNobody
	}
	sum := l.recent + l.pending.Owned
	share := 100 * float64(sum) / float64(max(l.owned+int64(l.recent), 1))
	switch {
	case sum > g.Max:
		return fmt.Sprintf("%d addresses would have gone within %s, which is more than removal_guard.max (%d)", sum, plainly(g.Window), g.Max)
	case sum > g.Count && share > g.Percent:
		return fmt.Sprintf("%d addresses (%.1f %% of the directory) would have gone within %s, which is more than removal_guard.count (%d) and percent (%g)",
			sum, share, plainly(g.Window), g.Count, g.Percent)
	}
	for _, domain := range sortedKeys(l.pending.Last) {
		if int64(l.pending.Last[domain]) >= l.domains[domain] {
			return fmt.Sprintf("no address of the domain %s would be left", domain)
		}
	}
	return ""
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

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// firstLost is the first of the addresses that would go; empty: none.
func firstLost(pass *store.Pass, canaries []address.Address) (string, error) {
	for _, a := range canaries {
		if lost, err := pass.Loses(a); err != nil || lost {
			return a.String(), err
		}
	}
	return "", nil
}

// decide asks the guard, and commits the pass.
func (r *reading) decide(next cursor, encoded []byte) error {
	hold, err := r.hold()
	if err != nil {
		return err
	}
	if r.m.judged != nil {
		r.m.judged()
	}
	r.info, err = r.pass.Commit(store.Outcome{Cursor: encoded, USN: next.USN, Hold: hold,
		Fingerprint: r.m.fingerprint, Ended: r.m.config.Now()})
	return err
}

// hold asks the guard about a pass that has read everything it had to.
func (r *reading) hold() (string, error) {
	m := r.m
	before := m.config.Store.Directory(m.config.Name)
	if before.Marked == 0 {
		return "", nil
	}
	pending, err := r.pass.Pending()
	if err != nil {
		return "", err
	}
	canary, err := firstLost(r.pass, m.limits.Load().Canaries)
	if err != nil {
		return "", err
	}
	recent, err := m.config.Store.RemovedSince(m.config.Name, r.started.Add(-m.config.Guard.Window))
	if err != nil {
		return "", err
	}
	nobody := r.owners == 0
	if r.kind == store.Incremental { // nothing has come to tell otherwise
		nobody = before.Hold == sawNobody
	}
	why := m.config.Guard.judge(losses{nobody: nobody, pending: pending, recent: recent, owned: before.Owned,
		domains: m.config.Store.Totals().Domains, canary: canary})
	if why == "" && nobody && m.config.Guard.Max > 0 { // all of it still waits, and is held at once
		why = sawNobody
	}
	if why != "" && before.Hold == "" {
		m.config.Log.Error("removals held back: look at `rcpt-milter removals`, then approve or discard them",
			"why", why, "addresses", pending.Owned, "objects", pending.Objects)
	}
	return why, nil
}
