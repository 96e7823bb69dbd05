package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

const child = "DC=child,DC=corp,DC=example"

// through returns a candidate that leads to a server through a port and with an account.
func (w *world) through(s *adsim.Server, catalog bool, account string) Candidate {
	w.t.Helper()
	ca, err := s.WriteCA(w.t.TempDir())
	w.must(err)
	config := directory.Config{URL: s.URL(), BindDN: account, CAFile: ca, Timeout: 5 * time.Second,
		Password: func() ([]byte, error) { return []byte(s.Password()), nil }}
	c := Candidate{Name: config.URL, View: viewDomain}
	if catalog {
		config.URL, config.Dialer = s.CatalogURL(), s.DialCatalog
		c.Name, c.View = s.CatalogURL()+" of "+s.URL(), viewCatalog
	}
	c.Dial = func(ctx context.Context) (Source, error) { return directory.Dial(ctx, config) }
	return c
}

// forest returns a world with a person in its domain, one in a child domain, and one below an OU that the
// account "svc-less" cannot see.
func forest(t *testing.T, change func(*world, *Config)) *world {
	t.Helper()
	w := newWorld(t, change)
	w.server.AddAccount("svc-less", "OU=Board,DC=corp,DC=example")
	w.d.AddDomain("child")
	w.user("Ann", "ann@corp.example")
	w.add(adsim.User, "CN=Cid,"+child, "cid@child.example")
	w.add(adsim.OU, "OU=Board,DC=corp,DC=example")
	w.add(adsim.User, "CN=Eve,OU=Board,DC=corp,DC=example", "eve@corp.example")
	return w
}

var (
	inDomainOnly = []string{"ann@corp.example", "eve@corp.example"}
	inForest     = []string{"ann@corp.example", "cid@child.example", "eve@corp.example"}
	withLess     = []string{"ann@corp.example"}
)

// reload replaces the candidates, like a reload of the configuration.
func (w *world) reload(candidates ...Candidate) {
	w.t.Helper()
	w.config.Candidates = candidates
	w.restart()
}

func (w *world) wantState(want State) {
	w.t.Helper()
	if got, _ := w.mirror.State(); got != want {
		w.t.Errorf("state %s, want %s", got, want)
	}
}

// TestOtherViewOfTheSameDatabase uses another port or account, which shows more or less of the same controller,
// with the same invocationId.
func TestOtherViewOfTheSameDatabase(t *testing.T) {
	const usual, less = "svc-mail@corp.example", "svc-less"
	for _, c := range []struct {
		name          string
		from, to      bool // whether the port is that of the Global Catalog
		before, after string
		first, then   []string
		why           string
	}{
		{"636 to 3269", false, true, usual, usual, inDomainOnly, inForest,
			"the port of the Global Catalog is read, and was not before"},
		{"3269 to 636", true, false, usual, usual, inForest, inDomainOnly, "no longer read"},
		{"account that sees more", false, false, less, usual, withLess, inDomainOnly,
			"another account before (svc-less)"},
		{"account that sees less", false, false, usual, less, inDomainOnly, withLess,
			"another account before (svc-mail@corp.example)"},
		{"both", true, false, usual, less, inForest, withLess, "no longer read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := forest(t, nil)
			w.reload(w.through(w.server, c.from, c.before))
			w.pass(store.Full)
			w.wantKnown(c.first...)
			w.reload(w.through(w.server, c.from, c.before))
			w.wantState(Fresh)
			w.pass(store.Incremental)

			w.reload(w.through(w.server, c.to, c.after))
			if c.from != c.to {
				w.wantState(Widening)
			}
			during := State("")
			w.server.SetFaults(adsim.Faults{BeforePage: func(adsim.Search) { during, _ = w.mirror.State() }})
			if info := w.pass(store.Full); !strings.Contains(info.Why, c.why) {
				t.Errorf("full pass because %q, want %q", info.Why, c.why)
			}
			w.server.SetFaults(adsim.Faults{})
			if during != Widening {
				t.Errorf("state %s before the full pass ended", during)
			}
			w.wantState(Fresh)
			both := slices.Compact(slices.Sorted(slices.Values(slices.Concat(c.first, c.then))))
			w.wantKnown(both...) // addresses that only the other view showed stay
			w.pass(store.Incremental)
			w.wantKnown(both...)
			w.advance(w.config.ReplicationLag + time.Hour)
			w.pass(store.Incremental)
			w.wantKnown(c.then...)
		})
	}
}

// TestOtherViewThatFails checks that an interrupted full pass in another view is repeated, and that the state
// stays until then.
func TestOtherViewThatFails(t *testing.T) {
	w := forest(t, nil)
	w.reload(w.through(w.server, false, "svc-mail@corp.example"))
	w.pass(store.Full)
	w.reload(w.through(w.server, true, "svc-mail@corp.example"))
	w.server.SetFaults(adsim.Faults{OnPage: 2, CutAfterEntries: 1})
	for range 2 {
		if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
			t.Fatal("the pass succeeded")
		}
		w.wantState(Widening)
	}
	w.server.SetFaults(adsim.Faults{})
	w.pass(store.Full)
	w.wantKnown(inForest...)
}

// TestOtherAccountIsExpected checks that a mirror knows its account before it connects.
func TestOtherAccountIsExpected(t *testing.T) {
	w := forest(t, func(_ *world, c *Config) { c.Account = "Svc-Mail@corp.example" })
	w.pass(store.Full)
	w.config.Account = "svc-mail@CORP.example"
	w.restart()
	w.wantState(Fresh)
	w.config.Account = "svc-other@corp.example"
	w.restart()
	w.wantState(Widening)
	w.pass(store.Full)
	w.wantState(Fresh)
}

// TestOtherDomainIsExpected restarts with other names of controllers, none of which answers. If all belong to another
// domain, what the index does not have is undecided.
func TestOtherDomainIsExpected(t *testing.T) {
	for _, c := range []struct {
		name   string
		before string   // host of the controller that was read
		hosts  []string // from then on
		domain string   // of discovery, in place of hosts
		want   State
	}{
		{"the same", "dc1.corp.example", []string{"dc1.corp.example"}, "", Fresh},
		{"another controller", "dc1.corp.example", []string{"DC2.Corp.Example"}, "", Fresh},
		{"the domain itself", "dc1.corp.example", []string{"corp.example"}, "", Fresh},
		{"an address", "dc1.corp.example", []string{"192.0.2.1"}, "", Fresh},
		{"an IPv6 address", "dc1.corp.example", []string{"2001:db8::1"}, "", Fresh},
		{"a name without domain", "dc1.corp.example", []string{"dc9"}, "", Fresh},
		{"an unknown name", "dc1.corp.example", []string{""}, "", Fresh},
		{"another domain", "dc1.corp.example", []string{"dc1.new.example"}, "", Widening},
		{"a child domain", "dc1.corp.example", []string{"dc1.child.corp.example"}, "", Widening},
		{"one of another domain", "dc1.corp.example", []string{"dc1.new.example", "dc2.corp.example"}, "", Fresh},
		{"a disjoint name that was read", "ldap.dmz.example", []string{"LDAP.dmz.example"}, "", Fresh},
		{"a disjoint name that was not", "dc1.corp.example", []string{"ldap.dmz.example"}, "", Widening},
		{"from an address", "192.0.2.1", []string{"dc1.new.example"}, "", Widening},
		{"discovery of the domain", "dc1.corp.example", nil, "Corp.example", Fresh},
		{"discovery of another domain", "dc1.corp.example", nil, "new.example", Widening},
		{"a cursor of an earlier version", "", []string{"dc1.new.example"}, "", Fresh},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(w *world, config *Config) { config.Candidates[0].Host = c.before })
			w.user("Ann", "ann@corp.example")
			w.pass(store.Full)
			w.pass(store.Incremental)
			w.server.Down()
			candidate := w.config.Candidates[0]
			w.config.Candidates = nil
			for i, host := range c.hosts {
				candidate.Name, candidate.Host = fmt.Sprint("dc", i), host
				w.config.Candidates = append(w.config.Candidates, candidate)
			}
			if w.config.Domain = c.domain; c.domain != "" {
				w.config.Discover = func(context.Context) ([]Candidate, error) { return []Candidate{candidate}, nil }
			}
			w.restart()
			w.wantState(c.want)
			if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
				t.Fatal("the pass does not fail")
			}
			w.wantState(c.want)
			w.must(w.server.Up())
			w.pass(store.Incremental)
			w.wantState(Fresh)
		})
	}
}

// TestControllersOfDifferentKind checks a directory with two controllers, one of which has the port of the
// Global Catalog. Objects that only this one shows are not removed at the other one, however long that is used.
// Addresses that are not known there count as undecided.
func TestControllersOfDifferentKind(t *testing.T) {
	for _, declared := range []bool{true, false} {
		t.Run(fmt.Sprint("declared ", declared), func(t *testing.T) {
			w := forest(t, nil)
			second := w.d.NewReplica("dc2", 500_000)
			s2 := adsim.StartTest(t, second, adsim.ServerConfig{})
			plain, catalog := w.through(w.server, false, w.server.BindDN()), w.through(s2, true, s2.BindDN())
			if !declared {
				plain.View, catalog.View = "", ""
			}
			w.reload(catalog, plain)
			w.pass(store.Full)
			w.wantKnown(inForest...)
			w.wantState(Fresh)
			s2.Down()
			w.pass(store.Full)
			for range 3 {
				w.wantState(Widening)
				w.wantKnown(inForest...)
				w.advance(5 * time.Hour)
				w.pass(store.Incremental)
				if r := w.mirror.Pass(t.Context(), true); r.Err != nil {
					t.Fatal(r.Err)
				}
			}
			ann, err := w.d.Lookup("CN=Ann," + people)
			w.must(err)
			w.must(w.d.Delete(ann.GUID)) // removals of objects that it shows take effect
			w.pass(store.Incremental)
			w.wantKnown("cid@child.example", "eve@corp.example")
		})
	}
}

func TestInDomain(t *testing.T) {
	const context = "DC=corp,DC=example"
	for dn, want := range map[string]bool{
		"CN=Ann,OU=People,DC=corp,DC=example": true,
		"cn=ann, dc=CORP, dc=example":         true,
		context:                               true,
		"DC=www,DC=zone,CN=MicrosoftDNS,DC=corp,DC=example": true,
		`CN=Ann\,DC=child,DC=corp,DC=example`:               true,
		"CN=Cid,DC=child,DC=corp,DC=example":                false,
		"CN=Cid,DC=other,DC=example":                        false,
		"DC=example":                                        false,
		"":                                                  false,
	} {
		t.Run(dn, func(t *testing.T) {
			if got := inDomain(dn, context); got != want {
				t.Errorf("inDomain(%q) = %t", dn, got)
			}
		})
	}
}

// TestBackToTheCatalog checks a directory that is read through one domain because the Global Catalog was down.
// It must return to the Global Catalog, and a restart in between must not make it ready.
func TestBackToTheCatalog(t *testing.T) {
	for _, bases := range [][]string{nil, {child}} {
		t.Run(fmt.Sprint("bases ", bases), func(t *testing.T) {
			w := forest(t, func(_ *world, c *Config) { c.Rules.Bases = bases })
			s2 := adsim.StartTest(t, w.d.NewReplica("dc2", 500_000), adsim.ServerConfig{})
			w.reload(w.through(s2, true, s2.BindDN()), w.through(w.server, false, w.server.BindDN()))
			w.pass(store.Full)
			want := w.known()
			s2.Down()
			w.mirror.Pass(t.Context(), false)
			w.restart()
			if state, _ := w.mirror.State(); bases == nil && state != Widening {
				t.Errorf("state %s after a restart", state)
			}
			for range 3 {
				w.mirror.Pass(t.Context(), false)
				w.wantKnown(want...)
				w.advance(15 * time.Minute)
			}
			w.must(s2.Up())
			for range 2 {
				w.mirror.Pass(t.Context(), false)
				w.advance(15 * time.Minute)
			}
			w.mirror.Pass(t.Context(), false)
			w.wantState(Fresh)
			w.wantKnown(want...)
		})
	}
}
