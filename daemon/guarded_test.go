package daemon

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// ownedDomains is an index with one recipient, ann, in each of its domains.
type ownedDomains map[string]bool

func (o ownedDomains) Lookup(a address.Address) (policy.Entry, error) {
	return policy.Entry{Known: o[a.Domain()] && a.Local() == "ann"}, nil
}

func (ownedDomains) Freshness(string) policy.Freshness { return policy.Freshness{State: policy.Fresh} }

// TestGuardedTargets removes the recipients of one domain from the index, with random aliases in the
// configuration and in an accept file. If that changes an answer, the domain must be guarded.
func TestGuardedTargets(t *testing.T) {
	domains := []string{"a.test", "b.test", "c.test", "d.test"}
	own, other := 0, 0
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 7))
		c, files := randomAliases(t, r, domains)
		answers := func(owned ownedDomains) map[string]bool {
			p, err := newPolicy(c, owned, files, queryChecks{}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			accepted := map[string]bool{}
			for _, domain := range domains {
				d := p.Decide(t.Context(), policy.Query{Recipient: "ann@" + domain})
				accepted[domain] = d.Enforced().IsContinue()
			}
			return accepted
		}
		owned := ownedDomains{}
		for _, domain := range domains {
			owned[domain] = r.IntN(2) == 0
		}
		removed := domains[r.IntN(len(domains))]
		owned[removed] = true
		before := answers(owned)
		owned[removed] = false
		after := answers(owned)
		decides := false
		for _, domain := range domains {
			switch {
			case before[domain] == after[domain]:
				continue
			case domain == removed:
				own++
			default:
				other++
			}
			decides = true
		}
		if decides && !c.Guards(removed) {
			t.Errorf("seed %d: %s is not guarded, and its recipients decide; domains %v, domain_aliases %v, file %v",
				seed, removed, c.Domains, c.DomainAliases, allAliases(c, files.Snapshot()))
		}
	}
	if own < 500 || other < 200 {
		t.Errorf("%d removals changed the answer for their domain, %d for an alias of it; want more", own, other)
	}
}

// randomAliases returns a configuration and an accept file with random modes and aliases.
func randomAliases(t *testing.T, r *rand.Rand, domains []string) (*config.Config, *tables.Files) {
	t.Helper()
	c := &config.Config{Domains: map[string]config.Mode{}, DomainAliases: map[string]string{}}
	var lines strings.Builder
	for i, domain := range domains {
		if mode := []config.Mode{config.Enforce, config.Report, config.Pass, ""}[r.IntN(4)]; mode != "" {
			c.Domains[domain] = mode
		}
		if i+1 == len(domains) {
			continue
		}
		target := domains[i+1+r.IntN(len(domains)-i-1)]
		switch _, own := c.Domains[domain]; {
		case r.IntN(3) == 0:
			fmt.Fprintf(&lines, "@%s @%s\n", domain, target)
		case own && r.IntN(2) == 0: // an alias in the configuration needs an entry in domains
			c.DomainAliases[domain] = target
		}
	}
	path := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(path, []byte("other@other.test OK\n"+lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	files := tables.NewFiles(tables.Config{})
	prepared, err := files.Prepare([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	files.Use(prepared)
	return c, files
}
