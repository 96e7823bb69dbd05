package milter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	gomilter "github.com/emersion/go-milter"

	"rcpt-milter/policy"
	"rcpt-milter/policy/harvest"
)

// TestHarvestOverSessions checks that several sessions from one network count as one client. From the address
// that exceeds the limit, the client gets 421. Known recipients are still accepted, unless the scope is all.
func TestHarvestOverSessions(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("scope all %t", all), func(t *testing.T) { harvestOverSessions(t, all) })
	}
}

// limitOf returns a limit of 5 addresses.
func limitOf(t *testing.T, log *logBuffer) *harvest.Limit {
	t.Helper()
	limit, err := harvest.New(harvest.Config{
		Memory: harvest.NewMemory(), Unknown: 5, Ratio: 0.8, Window: time.Hour, Penalty: time.Hour, IPv4: 24, IPv6: 64,
		Logger: log.logger(0),
	})
	if err != nil {
		t.Fatal(err)
	}
	return limit
}

func harvestOverSessions(t *testing.T, all bool) {
	log := newLogBuffer()
	limit := limitOf(t, log)
	r := serve(t, "unix", func(cfg *ServerConfig) {
		cfg.Policy = testPolicy(t, func(cfg *policy.Config) { cfg.Harvest, cfg.HarvestScopeAll = limit, all })
	})
	ask := func(client, recipient string) string {
		s := r.session(t)
		defer s.Close()
		if err := s.Macros(gomilter.CodeRcpt, "{rcpt_addr}", recipient, "{client_addr}", client, "{client_name}",
			"a\x1b.test",
			"{mail_addr}", "from@client.test"); err != nil {
			t.Fatal(err)
		}
		return bareRcpt(t, s, "<x>")
	}
	for i := range 5 {
		recipient := fmt.Sprintf("made-up%d@enforce.test", i)
		if got, want := ask(fmt.Sprintf("192.0.2.%d", i), recipient), expect(noUser, recipient); got != want {
			t.Errorf("guess %d: %q, want %q", i, got, want)
		}
	}
	if got, want := ask("192.0.2.77", "nobody@enforce.test"), expect(hangUp, "nobody@enforce.test"); got != want {
		t.Errorf("over the limit: %q, want %q", got, want)
	}
	want := goOn
	if all {
		want = expect(hangUp, "user@enforce.test")
	}
	if got := ask("192.0.2.77", "user@enforce.test"); got != want {
		t.Errorf("over the limit, known: %q, want %q", got, want)
	}
	if got, want := ask("IPv6:2001:db8::1", "nobody@enforce.test"), expect(noUser, "nobody@enforce.test"); got != want {
		t.Errorf("another network: %q, want %q", got, want)
	}
	if got := strings.Count(log.String(),
		`msg="network goes over the harvest limit" network=192.0.2.0/24 client=a\x1b.test[192.0.2.4]`); got != 1 {
		t.Errorf("%d lines in the log that the network goes over the limit:\n%s", got, log)
	}
}

// TestHarvestBounces checks that the recipients of a bounce count from the second one on. First recipients have
// a separate budget, so sending one message per guess does not bypass the limit.
func TestHarvestBounces(t *testing.T) {
	for _, c := range []struct {
		name string
		each int // recipients per message
		most int // guesses that are answered with a limit of 5
	}{{"one message", 500, 1 + 5}, {"messages of three recipients", 3, 3 + 3 + 2}, {"one recipient each", 1, 50}} {
		t.Run(c.name, func(t *testing.T) {
			limit := limitOf(t, newLogBuffer())
			r := serve(t, "unix", func(cfg *ServerConfig) {
				cfg.Policy = testPolicy(t, func(cfg *policy.Config) { cfg.Harvest = limit })
			})
			answered := 0
			for answered < 500 {
				s := r.session(t)
				var last string
				for range c.each {
					recipient := fmt.Sprintf("guess%d@enforce.test", answered)
					if err := s.Macros(gomilter.CodeRcpt, "{rcpt_addr}", recipient, "{client_addr}", "192.0.2.1",
						"{mail_addr}", ""); err != nil {
						t.Fatal(err)
					}
					if last = bareRcpt(t, s, "<x>"); last != expect(noUser, recipient) {
						break
					}
					answered++
				}
				s.Close()
				if strings.HasPrefix(last, "421 ") {
					break
				}
			}
			if answered != c.most {
				t.Errorf("%d of 500 guesses were answered, want %d", answered, c.most)
			}
		})
	}
}

// TestRecipientsOfMessage checks that the position of a recipient starts again after the end of a message,
// after an abort and after the next MAIL.
func TestRecipientsOfMessage(t *testing.T) {
	s := &session{server: serve(t, "unix", nil).Server}
	ask := func() int {
		t.Helper()
		if _, err := s.RcptTo("<x@foreign.test>", &gomilter.Modifier{}); err != nil {
			t.Fatal(err)
		}
		return s.query("<x@foreign.test>", nil).Nth
	}
	for name, end := range map[string]func() error{
		"abort": func() error { return s.Abort(nil) },
		"body":  func() error { _, err := s.Body(nil); return err },
		"MAIL":  func() error { _, err := s.MailFrom("<>", &gomilter.Modifier{}); return err },
	} {
		if first, second := ask(), ask(); first != 1 || second != 2 {
			t.Errorf("before %s: recipients %d and %d", name, first, second)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHarvestReportOnly checks that a limit that only reports counts and logs the replies that it would have
// caused.
func TestHarvestReportOnly(t *testing.T) {
	log := newLogBuffer()
	limit := limitOf(t, log)
	r := serve(t, "unix", func(cfg *ServerConfig) {
		cfg.Logger = log.logger(0)
		cfg.Policy = testPolicy(t, func(cfg *policy.Config) { cfg.Harvest, cfg.HarvestReportOnly = limit, true })
	})
	s := r.session(t)
	for i := range 12 {
		recipient := fmt.Sprintf("guess%d@enforce.test", i)
		if err := s.Macros(gomilter.CodeRcpt, "{rcpt_addr}", recipient, "{client_addr}", "192.0.2.1", "{mail_addr}",
			"from@client.test"); err != nil {
			t.Fatal(err)
		}
		if got, want := bareRcpt(t, s, "<x>"), expect(noUser, recipient); got != want {
			t.Errorf("guess %d: %q, want %q", i, got, want)
		}
	}
	if got := r.Counters().WouldLimit(); got != 7 {
		t.Errorf("%d decisions would have been limited, want 7", got)
	}
	if got := strings.Count(log.String(), "would_limit=true"); got != 7 {
		t.Errorf("%d lines with would_limit, want 7:\n%s", got, log)
	}
}
