package daemon

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// doorsDomains are the domains of TestExportFileAgreesWithPolicy. Only some of them are configured.
var doorsDomains = []string{"a.example", "b.example", "c.example", "x.sub.example", "y.sub.example",
	"xn--bcher-kva.example", "other.test"}

var doorsLocals = []string{"ann", "bob", "ann+x", "postmaster", "abuse+x", "jörg", `"j d"`, "j..d"}

// pick returns some of the words.
func pick(r *rand.Rand, n int, words func() string) (all []string) {
	for range r.IntN(n + 1) {
		all = append(all, words())
	}
	return all
}

// postfixFinds reports whether Postfix finds an address in a table with recipient_delimiter +: the whole
// address, the address without its extension, or its domain.
func postfixFinds(t *tables.Table, a address.Address, delimiter string) bool {
	keys := []string{a.String(), "@" + a.Domain()}
	if base, ok := a.WithoutExtension(delimiter); ok {
		keys = append(keys, base.String())
	}
	for _, key := range keys {
		if t.Has(key) {
			return true
		}
	}
	return false
}

// randomDoors returns a random configuration with accept files, and the addresses of its index.
func randomDoors(t *testing.T, r *rand.Rand) (c *config.Config, lines, indexed []string) {
	domain := func() string { return doorsDomains[r.IntN(len(doorsDomains))] }
	mailbox := func() string { return doorsLocals[r.IntN(len(doorsLocals))] + "@" + domain() }
	modes := []config.Mode{config.Enforce, config.Enforce, config.Enforce, config.Report, config.Pass}
	c = &config.Config{Domains: map[string]config.Mode{"a.example": config.Enforce}, RecipientDelimiter: "+",
		DomainAliases: map[string]string{}, AlwaysAccept: []string{"postmaster", "abuse"}}
	for _, d := range append(doorsDomains[1:6:6], ".sub.example") {
		if r.IntN(2) == 0 {
			c.Domains[d] = modes[r.IntN(len(modes))]
		}
	}
	if alias := domain(); r.IntN(2) == 0 && alias != "a.example" && c.Judges(alias) {
		c.DomainAliases[alias] = "a.example"
	}
	c.Accept = pick(r, 2, mailbox)
	if r.IntN(4) == 0 {
		c.Accept = append(c.Accept, "@"+domain())
	}
	for _, text := range pick(r, 2, mailbox) {
		c.Refuse = append(c.Refuse, parsed(t, text))
	}
	lines = append(pick(r, 3, func() string { return mailbox() + " OK" }), "filed@a.example OK")
	lines = append(lines, pick(r, 1, func() string { return "@" + domain() + " @" + domain() })...)
	lines = append(lines, pick(r, 1, func() string { return "@" + domain() + " OK" })...)
	return c, lines, append([]string{"indexed@a.example"}, pick(r, 5, mailbox)...)
}

// TestExportFileAgreesWithPolicy checks that the file has every recipient that the policy does not reject for
// every sender, for random indexes, lists, aliases and modes.
func TestExportFileAgreesWithPolicy(t *testing.T) {
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 7))
		c, lines, indexed := randomDoors(t, r)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("domains %v, aliases %v, accept %q, refuse %q, file %q, index %q", c.Domains, c.DomainAliases,
				c.Accept, c.Refuse, lines, indexed)
			file := filepath.Join(t.TempDir(), "accept")
			if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c.AcceptFiles = []string{file}
			s := newTestStore(t)
			x := newExportTest(t, s, indexed...)
			c.Export.File, c.Export.Format, x.use = x.use.Export.File, x.use.Export.Format, c
			var e exporter
			files := tables.NewFiles(tables.Config{})
			prepared, err := files.Prepare(c.AcceptFiles)
			if err != nil {
				t.Fatal(err)
			}
			files.Use(prepared)
			x.exporter = func(c *config.Config, q control.ExportQuery) (exporter, error) {
				e = newTestExporter(t, c, s, q)
				e.open = nil
				e.findOpen(domainsWithoutAddress(c, files, s.HasDomain, s.HasDomainBelow),
					func(string) bool { return true }, fileAges{})
				return e, nil
			}
			x.Pass(t.Context())
			written, err := tables.ReadFile(c.Export.File)
			if err != nil {
				t.Fatalf("%v, %+v", err, x.Status())
			}
			for _, d := range doorsDomains {
				if _, named := c.Domains[d]; !named && !slices.Contains(e.judged(), d) {
					continue // Postfix does not relay it, or the header says that the table cannot open the domain
				}
				for _, local := range append(doorsLocals, "nobody", "filed", "indexed") {
					a := parsed(t, local+"@"+d)
					decision := e.policy.Decide(t.Context(), policy.Query{Recipient: a.String(), AnySender: true})
					if decision.Outcome() != policy.Refused && !postfixFinds(written, a, "+") {
						t.Errorf("%s is %s (%s), and not in the file", a, decision.Verdict, decision.Entry)
					}
				}
			}
		})
	}
}
