package socketmap

import (
	"strings"
	"sync/atomic"
	"testing"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// lookups are keys of the map with their replies.
var lookups = []struct{ name, key, want string }{
	{"known", "ann@enforce.test", "OK known"},
	{"another spelling", `"ANN"@Enforce.Test`, "OK known"},
	{"with an extension", "ann+news@enforce.test", "OK known"},
	{"quoted", `"john doe"@enforce.test`, "OK known"},
	{"unknown", "nobody@enforce.test", "NOTFOUND "},
	{"not readable as an address", `us"er@enforce.test`, "NOTFOUND "},
	{"denylisted", "left@enforce.test", "NOTFOUND "},
	{"always accepted", "postmaster@enforce.test", "OK always"},
	{"allowlisted", "nobody@catchall.test", "OK allowlisted"},
	{"found by a search", "newcomer@enforce.test", "OK confirmed"},
	{"a foreign domain", "nobody@elsewhere.test", "OK not-ours"},
	{"mode pass", "nobody@pass.test", "OK not-ours"},

	{"removed a short while ago", "gone@enforce.test",
		"TEMP removed from the directory a short while ago"},
	{"stale", "nobody@stale.test", "TEMP the directory was last read too long ago"},
	{"not ready", "nobody@notready.test", "TEMP the directory has not been read in full yet"},
	{"known while stale", "ann@stale.test", "OK known"},
	{"internal error", "broken@enforce.test", "TEMP internal error, see the log of rcpt-milter"},

	{"internal-only", "staff@enforce.test", "OK known"},
	{"internal-only in doubt", "doubtful@enforce.test", "OK known"},
	{"internal-only since a short while", "closing@enforce.test", "OK known"},
	{"internal-only while stale", "staff@stale.test", "OK known"},
	{"internal-only while not ready", "staff@notready.test", "OK known"},

	{"mode report, known", "ann@report.test", "OK known"},
	{"mode report, unknown", "nobody@report.test", "OK would-refuse"},
	{"mode report, stale", "nobody@stalereport.test", "OK would-refuse"},
	{"mode report, internal error", "broken@report.test", "OK would-refuse"},

	{"a whole domain", "@enforce.test", "NOTFOUND "},
	{"a whole domain of a catch-all", "@catchall.test", "OK allowlisted"},
	{"a whole domain in mode report", "@report.test", "OK would-refuse"},
	{"a bare name, which no domain judges", "nobody", "NOTFOUND "},
	{"nothing", "", "NOTFOUND "},
	{"long", strings.Repeat("x", 9000) + "@enforce.test", "NOTFOUND "},
	{"control characters", "a\x00b\r\n@enforce.test", "NOTFOUND "},
}

func TestLookups(t *testing.T) {
	c := serve(t, "unix", nil).dial(t)
	for _, l := range lookups {
		t.Run(l.name, func(t *testing.T) {
			c.t = t
			if got := c.ask(Map + " " + l.key); got != l.want {
				t.Errorf("reply to %q is %q, want %q", l.key, got, l.want)
			}
		})
	}
}

// TestFallbackRefuse checks that with when_stale: refuse, an unknown recipient in a stale index is not found,
// and that a recipient that only some senders may write to is still found.
func TestFallbackRefuse(t *testing.T) {
	c := serve(t, "unix", func(cfg *Config) {
		cfg.Policy = testPolicy(t, func(p *policy.Config) { p.WhenStale = policy.FallbackRefuse })
	}).dial(t)
	for key, want := range map[string]string{"nobody@stale.test": "NOTFOUND ", "staff@stale.test": "OK known"} {
		if got := c.ask(Map + " " + key); got != want {
			t.Errorf("reply to %q is %q, want %q", key, got, want)
		}
	}
}

// TestMalformedRequests checks that a request for another map, or without a key, gets a permanent error, and
// that the connection stays usable.
func TestMalformedRequests(t *testing.T) {
	s := serve(t, "tcp", nil)
	c := s.dial(t)
	for _, request := range []string{"", "recipients", "Recipients ann@enforce.test", " ann@enforce.test",
		"virtual ann@enforce.test"} {
		if got := c.ask(request); !strings.HasPrefix(got, "PERM ") {
			t.Errorf("reply to %q is %q, want PERM", request, got)
		}
	}
	if got := c.ask(Map + " ann@enforce.test"); got != "OK known" {
		t.Errorf("after them: %q", got)
	}
	if got, want := s.Counts(), (Counts{Found: 1, Permanent: 5}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

// TestLog checks that unsuccessful lookups are logged, escaped or hashed, and that a search that finds a
// recipient reports its domain.
func TestLog(t *testing.T) {
	var domain atomic.Value
	s := serve(t, "unix", func(cfg *Config) { cfg.Confirmed = func(d string) { domain.Store(d) } })
	c := s.dial(t)
	c.ask(Map + " newcomer@enforce.test")
	if got := domain.Load(); got != "enforce.test" {
		t.Errorf("confirmed in %v", got)
	}
	c.ask(Map + " no\x1bbody@enforce.test")
	if log := s.log.String(); strings.Contains(log, "\x1b") ||
		!strings.Contains(log, "verdict=unknown answer=NOTFOUND") {
		t.Errorf("log:\n%s", log)
	}
	s.SetRedaction(func(string) string { return "hash:1@enforce.test" })
	c.ask(Map + " secret@enforce.test")
	c.ask(Map + " broken@enforce.test")
	if log := s.log.String(); strings.Contains(log, "secret") || !strings.Contains(log, "to=hash:1@enforce.test") ||
		!strings.Contains(log, "the disk is gone") {
		t.Errorf("log with hashes:\n%s", log)
	}
}

// TestSetPolicy checks that a new policy is used on open connections.
func TestSetPolicy(t *testing.T) {
	s := serve(t, "unix", nil)
	c := s.dial(t)
	if got := c.ask(Map + " nobody@enforce.test"); got != "NOTFOUND " {
		t.Fatal(got)
	}
	s.SetPolicy(testPolicy(t, func(p *policy.Config) {
		p.Domains = map[string]policy.Mode{"enforce.test": policy.ModeReport}
		p.Accept, p.Refuse = nil, nil
	}))
	if got := c.ask(Map + " nobody@enforce.test"); got != "OK would-refuse" {
		t.Error(got)
	}
}

// TestPanic checks that a panic in the index is answered as an internal error.
func TestPanic(t *testing.T) {
	s := serve(t, "unix", func(cfg *Config) {
		cfg.Policy = testPolicy(t, func(p *policy.Config) {
			p.Index = fakeIndex{func(a address.Address) {
				if a.Local() == "crash" {
					panic("index")
				}
			}}
		})
	})
	c := s.dial(t)
	if got := c.ask(Map + " crash@enforce.test"); !strings.HasPrefix(got, "TEMP ") {
		t.Error(got)
	}
	if got := c.ask(Map + " ann@enforce.test"); got != "OK known" {
		t.Error(got)
	}
}
