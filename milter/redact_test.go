package milter

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

func TestHashAddress(t *testing.T) {
	hash, other := HashAddress([]byte("key")), HashAddress([]byte("other key"))
	ann := hash("ann@enforce.test")
	for _, same := range []string{"ANN@Enforce.Test", "<ann@enforce.test>", `"ann"@enforce.test`,
		"<@a.test:ann@enforce.test>"} {
		t.Run(same, func(t *testing.T) {
			if got := hash(same); got != ann {
				t.Errorf("hash(%q) = %q, want %q", same, got, ann)
			}
		})
	}
	for _, c := range []string{"bob@enforce.test", "ann@report.test", "ann+x@enforce.test", "ann",
		"a b@c@enforce.test", "\xff@enforce.test", "Jörg@münchen.test"} {
		t.Run(c, func(t *testing.T) {
			got := hash(c)
			local := c[:max(strings.LastIndexByte(c, '@'), 0)]
			if got == ann || got == c || local != "" && strings.Contains(got, local) || other(c) == got ||
				hash(c) != got {
				t.Errorf("hash(%q) = %q", c, got)
			}
			if domain := address.DomainOf(c); domain != "" && !strings.HasSuffix(got, "@"+domain) {
				t.Errorf("hash(%q) = %q, want the domain %q", c, got, domain)
			}
		})
	}
	for _, c := range []string{"", "<>"} {
		t.Run(c, func(t *testing.T) {
			if got := hash(c); got != c {
				t.Errorf("hash(%q) = %q", c, got)
			}
		})
	}
}

// TestRedactedLog checks that no local part appears in the log, whatever a client sends, and that the replies
// do not change.
func TestRedactedLog(t *testing.T) {
	index := testIndex()
	index.entries["secret.gone@enforce.test"] = policy.Entry{Removed: now}
	r := serve(t, "unix", func(cfg *ServerConfig) {
		cfg.Policy = testPolicy(t, func(cfg *policy.Config) {
			cfg.Index = failingFor{index, "secret.broken@enforce.test"}
		})
	})
	r.SetRedaction(HashAddress([]byte("key")))
	s := r.session(t)
	defer s.Close()
	for _, to := range []string{
		"secret@enforce.test", "SECRET.x@report.test", "secret.gone@enforce.test", "secret.broken@enforce.test",
		"se cret\r\nsecret@enforce.test", strings.Repeat("secret", 100) + "@enforce.test",
		`"secret%s"@enforce.test`, "secret",
	} {
		if err := s.Macros('R', "{rcpt_addr}", to, "{mail_addr}", "secret.sender@elsewhere.test", "{auth_authen}",
			"secret.login"); err != nil {
			t.Fatal(err)
		}
		reply := bareRcpt(t, s, "<"+to+">")
		if reply != goOn && !strings.Contains(reply, "secret") {
			t.Errorf("RCPT %q: the client reads %q", to, reply)
		}
	}
	log := r.log.String()
	if strings.Contains(strings.ToLower(log), "secret") {
		t.Errorf("a local part is in the log:\n%s", log)
	}
	for _, want := range []string{"@enforce.test>: Recipient address rejected: User unknown", "@elsewhere.test",
		"would_refuse=true", "level=ERROR"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the log:\n%s", want, log)
		}
	}
}

// failingFor is an index whose error contains the address.
type failingFor struct {
	policy.Index
	address string
}

func (f failingFor) Lookup(a address.Address) (policy.Entry, error) {
	if a.String() == f.address {
		return policy.Entry{}, fmt.Errorf("record %q: %w", "a/"+a.String(), errors.New("cannot be read"))
	}
	return f.Index.Lookup(a)
}
