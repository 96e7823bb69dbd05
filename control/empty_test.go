package control

import (
	"strings"
	"testing"

	"rcpt-milter/policy"
)

// TestEmptyDomainText: the text has what the recipients of the domain really get.
func TestEmptyDomainText(t *testing.T) {
	for _, c := range []struct {
		name         string
		domain       string
		whenNotReady policy.Fallback
		want, no     string
	}{
		{"default", "a.test", "", "451", "accepted"},
		{"tempfail", "a.test", policy.FallbackTempfail, "451", "accepted"},
		{"accept", "a.test", policy.FallbackAccept, "accepted", "451"},
		{"sub-domains", ".a.test", policy.FallbackAccept, "sub-domain of a.test", "451"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Status{WhenNotReady: c.whenNotReady}.EmptyDomainText(c.domain)
			if !strings.Contains(got, c.want) || strings.Contains(got, c.no) {
				t.Errorf("%q, want %q and no %q", got, c.want, c.no)
			}
		})
	}
}
