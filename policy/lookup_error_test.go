package policy

import (
	"context"
	"errors"
	"strings"
	"testing"

	"rcpt-milter/address"
)

// damagedIndex finds what it has, and cannot tell about anything else.
type damagedIndex struct{ *fakeIndex }

func (i damagedIndex) Lookup(a address.Address) (Entry, error) {
	if entry := i.entries[a.String()]; entry.Known {
		return entry, nil
	}
	return Entry{}, errIndex
}

// TestDamagedIndexAcceptsWhatItHas: an index that cannot tell about one form of a recipient may have another one.
// That form can accept the recipient, and cannot lead to a rejection.
func TestDamagedIndexAcceptsWhatItHas(t *testing.T) {
	p := testPolicy(t, func(cfg *Config) {
		index := cfg.Index.(*fakeIndex)
		index.entries["staff@enforce.test"] = Entry{Known: true, InternalOnly: true}
		cfg.Index = damagedIndex{index}
		cfg.RecipientDelimiter, cfg.StripPrefixes = "+", []string{"prvs="}
		cfg.Domains["alias.test"] = ModeEnforce
		cfg.DomainAliases = map[string]string{"alias.test": "enforce.test"}
	})
	for _, c := range []struct {
		name, recipient, authenticated string
		verdict                        Verdict
		match                          string
	}{
		{"known", "user@enforce.test", "", VerdictKnown, "user@enforce.test"},
		{"with an extension", "user+x@enforce.test", "", VerdictKnown, "user@enforce.test"},
		{"with a tag", "prvs=0123=user@enforce.test", "", VerdictKnown, "user@enforce.test"},
		{"with both", "prvs=0123=user+x@enforce.test", "", VerdictKnown, "user@enforce.test"},
		{"with an extension, at an alias", "user+x@alias.test", "", VerdictKnown, "user@enforce.test"},
		{"internal-only, from outside", "staff+x@enforce.test", "", VerdictError, "staff@enforce.test"},
		{"internal-only, from inside", "staff+x@enforce.test", "ann", VerdictKnown, "staff@enforce.test"},
		{"neither", "nobody+x@enforce.test", "", VerdictError, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := p.Decide(t.Context(), Query{Recipient: c.recipient, Authenticated: c.authenticated})
			if d.Verdict != c.verdict || d.Match.String() != c.match ||
				(c.verdict == VerdictError) != (d.Reply.Code() == 451) {
				t.Errorf("%s, match %q, %q", d.Verdict, d.Match, d.Reply)
			}
		})
	}
}

// rememberingConfirmer has no budget for searches, and remembers these addresses.
type rememberingConfirmer map[string]bool

func (c rememberingConfirmer) Confirm(_ context.Context, a address.Address, _ bool) (Entry, error) {
	if c[a.String()] {
		return Entry{Known: true}, nil
	}
	return Entry{}, errors.New("the budget of searches is used up")
}

// TestConfirmedFormAfterASearchWithoutAnswer: a search for one form that has no answer hides no other form that was
// found a moment ago.
func TestConfirmedFormAfterASearchWithoutAnswer(t *testing.T) {
	p := testPolicy(t, func(cfg *Config) {
		cfg.Confirm = rememberingConfirmer{"fresh@enforce.test": true}
		cfg.RecipientDelimiter, cfg.StripPrefixes = "+", []string{"prvs="}
	})
	for recipient, want := range map[string]Verdict{
		"fresh@enforce.test": VerdictConfirmed, "fresh+x@enforce.test": VerdictConfirmed,
		"prvs=0123=fresh+x@enforce.test": VerdictConfirmed, "nobody+x@enforce.test": VerdictUnknown,
	} {
		t.Run(recipient, func(t *testing.T) {
			if d := p.Decide(t.Context(), Query{Recipient: recipient}); d.Verdict != want {
				t.Errorf("%s, want %s", d.Verdict, want)
			}
		})
	}
}

// TestUnreadableInAWholeDomain: a list that accepts a whole domain accepts recipients that cannot be read too, such
// as one that is too long, whichever list it is.
func TestUnreadableInAWholeDomain(t *testing.T) {
	p := testPolicy(t, func(cfg *Config) {
		cfg.Accept = []string{"@enforce.test"}
		cfg.AcceptFiles = fakeTable{"@late.test": 7, "ann@xn--mnchen-3ya.test": 8}
	})
	long := strings.Repeat("a", address.MaxLength)
	for _, c := range []struct {
		recipient, entry string
		verdict          Verdict
	}{
		{long + "@enforce.test", "@enforce.test", VerdictAllowlisted},
		{long + "@late.test", "/table:7", VerdictAllowlisted},
		{"a\u0085@late.test", "/table:7", VerdictAllowlisted},
		{long + "@xn--mnchen-3ya.test", "", VerdictUnknown},
		{long + "@stale.test", "", VerdictUnknown},
	} {
		t.Run(c.recipient[max(0, len(c.recipient)-30):], func(t *testing.T) {
			d := p.Decide(t.Context(), Query{Recipient: c.recipient})
			if d.Verdict != c.verdict || d.Entry != c.entry || d.Shared != (c.entry != "") {
				t.Errorf("%s by %q, shared %t, want %s by %q", d.Verdict, d.Entry, d.Shared, c.verdict, c.entry)
			}
		})
	}
}

// TestNotReadyReason: a directory that was read before is not called unread when its rules or its scope change, or
// when the store may have lost addresses of it.
func TestNotReadyReason(t *testing.T) {
	p := testPolicy(t, nil)
	for recipient, want := range map[string]string{
		"nobody@notready.test": "the directory has not been read in full yet",
		"nobody@widening.test": "the index may lack addresses until a full pass of the directory ends",
	} {
		t.Run(recipient, func(t *testing.T) {
			if d := p.Decide(t.Context(), Query{Recipient: recipient}); d.Verdict != VerdictNotReady ||
				d.Reason != want {
				t.Errorf("%s: %s, want %s", d.Verdict, d.Reason, want)
			}
		})
	}
}
