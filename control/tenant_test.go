package control

import (
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/policy"
)

func TestScope(t *testing.T) {
	scope := Scope{"example.com": true, ".example.org": true}
	for _, c := range []struct {
		domain string
		want   bool
	}{
		{"example.com", true}, {"sub.example.org", true}, {"a.b.example.org", true}, {".example.org", true},
		{".sub.example.org", true},
		{"example.org", false}, {"sub.example.com", false}, {".example.com", false}, {"notexample.com", false},
		{"badexample.org", false}, {"example.com.evil.test", false}, {".org", false}, {"com", false}, {"", false},
		{".", false}, {"EXAMPLE.com", false},
	} {
		t.Run("covers "+c.domain, func(t *testing.T) {
			if got := scope.Covers(c.domain); got != c.want {
				t.Errorf("Covers(%q) = %t", c.domain, got)
			}
			if (Scope)(nil).Covers(c.domain) {
				t.Errorf("the zero value covers %q", c.domain)
			}
		})
	}
	for _, c := range []struct {
		text string
		want bool
	}{
		{"jane@example.com", true}, {"<Jane@EXAMPLE.com.>", true}, {"<@relay.test:jane@example.com>", true},
		{`"a@other.test"@example.com`, true}, {`us"er@example.com`, true}, {"jane@ｅxample.com", true},
		{"jane@other.test", false}, {`"jane@example.com"@other.test`, false}, {"<@example.com:jane@other.test>", false},
		{"jane@example.com (jane@other.test)", true}, {"jane@example.com,x@other.test", false},
		{"postmaster", false}, {"", false}, {"@", false}, {"example.com", false},
	} {
		t.Run(c.text, func(t *testing.T) {
			if got := scope.CoversText(c.text); got != c.want {
				t.Errorf("CoversText(%q) = %t", c.text, got)
			}
		})
	}
}

func TestUnknownText(t *testing.T) {
	s := Status{WhenStale: policy.FallbackRefuse, AcceptFiles: []AcceptFile{{File: "/fine"}}}
	if got := s.UnknownText(Stale); !strings.Contains(got, "550") {
		t.Errorf("without a doubt: %q", got)
	}
	s.AcceptFiles = append(s.AcceptFiles, AcceptFile{File: "/half", Doubt: "why"})
	if got := s.UnknownText(Stale); !strings.Contains(got, "451") {
		t.Errorf("an accept file in doubt: %q", got)
	}
	s = Status{WhenStale: policy.FallbackAccept}
	for _, c := range []struct {
		state State
		want  []string
	}{
		{Fresh, nil}, {Late, nil}, {Retired, nil},
		{Stale, []string{"accepted", "when_stale: accept"}},
		{NotReady, []string{"451", "when_not_ready: tempfail"}},
	} {
		t.Run(string(c.state), func(t *testing.T) {
			got := s.UnknownText(c.state)
			if (got == "") != (c.want == nil) {
				t.Errorf("UnknownText(%s) = %q", c.state, got)
			}
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("UnknownText(%s) = %q, without %q", c.state, got, want)
				}
			}
		})
	}
}

func TestUnknownIn(t *testing.T) {
	for _, c := range []struct {
		state                   State
		whenStale, whenNotReady policy.Fallback
		want                    UnknownReply
	}{
		{Fresh, "", "", UnknownRejected},
		{Late, policy.FallbackAccept, policy.FallbackAccept, UnknownRejected},
		{Stale, "", policy.FallbackAccept, UnknownDeferred},
		{Stale, policy.FallbackTempfail, "", UnknownDeferred},
		{Stale, policy.FallbackAccept, "", UnknownAccepted},
		{Stale, policy.FallbackRefuse, "", UnknownRejected},
		{NotReady, policy.FallbackRefuse, "", UnknownDeferred},
		{NotReady, "", policy.FallbackAccept, UnknownAccepted},
		{"melted", "", "", UnknownDeferred},
	} {
		t.Run(fmt.Sprint(c.state, " ", c.whenStale, " ", c.whenNotReady), func(t *testing.T) {
			if got := UnknownIn(c.state, c.whenStale, c.whenNotReady); got != c.want {
				t.Errorf("UnknownIn(%s, %s, %s) = %s, want %s", c.state, c.whenStale, c.whenNotReady, got, c.want)
			}
		})
	}
}
