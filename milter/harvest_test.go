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

// TestHarvestOverSessions: several sessions of a network are one client. It gets 421 from the
// address on that takes it over the limit. Known recipients are accepted, unless the scope is
// all.
func TestHarvestOverSessions(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("scope all %t", all), func(t *testing.T) { harvestOverSessions(t, all) })
	}
}

func harvestOverSessions(t *testing.T, all bool) {
	log := newLogBuffer()
	limit, err := harvest.New(harvest.Config{
		Memory: harvest.NewMemory(), Unknown: 5, Ratio: 0.8, Window: time.Hour, Penalty: time.Hour, IPv4: 24, IPv6: 64,
		Logger: log.logger(0),
	})
	if err != nil {
		t.Fatal(err)
	}
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
