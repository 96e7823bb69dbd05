package policy

import (
	"context"
	"errors"
	"net/netip"

	"rcpt-milter/address"
)

// fakeTable maps canonical addresses, and domains with a leading @, to lines.
type fakeTable map[string]int

func (t fakeTable) Find(a address.Address) (string, int, bool) {
	if line := t[a.String()]; line != 0 {
		return "/table", line, false
	}
	line := t["@"+a.Domain()]
	return "/table", line, line != 0
}

// fakeConfirmer is a directory that has more addresses than the index. It records the searches.
type fakeConfirmer struct {
	asked    []string
	suspects int // number of searches for clients over the harvest limit
}

func (f *fakeConfirmer) Confirm(_ context.Context, a address.Address, suspect bool) (Entry, error) {
	f.asked = append(f.asked, a.String())
	if suspect {
		f.suspects++
	}
	switch a.Local() {
	case "fresh":
		return Entry{Known: true}, nil
	case "freshinside":
		return Entry{Known: true, InternalOnly: true}, nil
	case "mute":
		return Entry{Known: true}, errors.New("deadline exceeded") // the error must win over the entry
	case "crash":
		panic("confirm")
	}
	return Entry{}, nil
}

// fakeLimit limits the clients of one network.
type fakeLimit struct{ network netip.Prefix }

func (f fakeLimit) Limited(q Query) bool { return f.network.Contains(q.Client) }

func (f fakeLimit) Charge(Query, string, bool) { panic("a decision charges nothing") }

var guessers = netip.MustParsePrefix("192.0.2.0/24")
