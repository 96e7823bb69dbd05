package directory

import (
	"strings"
	"testing"
)

func TestParseDescription(t *testing.T) {
	for _, tc := range []struct {
		text, name string
		span       valueRange
		ok         bool
		next       int
	}{
		{"mail", "mail", valueRange{}, true, 0},
		{"proxyAddresses", "proxyaddresses", valueRange{}, true, 0},
		{"proxyAddresses;range=0-1499", "proxyaddresses", valueRange{true, 0, 1499}, true, 1500},
		{"proxyAddresses;Range=1500-*", "proxyaddresses", valueRange{true, 1500, -1}, true, 0},
		{"proxyAddresses;range=0-0", "proxyaddresses", valueRange{true, 0, 0}, true, 1},
		{"proxyAddresses;binary;range=2-3", "proxyaddresses", valueRange{true, 2, 3}, true, 4},
		{"mail;lang-de", "mail", valueRange{}, true, 0},
		{"proxyAddresses;range=3-2", "proxyaddresses", valueRange{}, false, 0},
		{"proxyAddresses;range=0-", "proxyaddresses", valueRange{}, false, 0},
		{"proxyAddresses;range=5", "proxyaddresses", valueRange{}, false, 0},
		{"proxyAddresses;range=-5", "proxyaddresses", valueRange{}, false, 0},
		{"proxyAddresses;range=*-*", "proxyaddresses", valueRange{}, false, 0},
		{"proxyAddresses;range=0-99999999999", "proxyaddresses", valueRange{}, false, 0},
		{"proxyAddresses;range=0-1;range=2-3", "proxyaddresses", valueRange{}, false, 0},
		{"", "", valueRange{}, false, 0},
		{";range=0-1", "", valueRange{true, 0, 1}, false, 2},
	} {
		t.Run(tc.text, func(t *testing.T) {
			name, s, ok := parseDescription(tc.text)
			if name != tc.name || s != tc.span || ok != tc.ok || s.next() != tc.next {
				t.Errorf("parseDescription(%q) = %q %+v %v (next %d), want %q %+v %v (next %d)",
					tc.text, name, s, ok, s.next(), tc.name, tc.span, tc.ok, tc.next)
			}
		})
	}
}

// FuzzParseDescription: whatever a server sends, a range is never negative or reversed,
// and reading on always moves forward.
func FuzzParseDescription(f *testing.F) {
	for _, s := range []string{"mail", "proxyAddresses;range=0-1499", "proxyAddresses;range=1500-*", "a;b;range=7-8",
		";range=--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, s, ok := parseDescription(text)
		if strings.ContainsAny(name, ";") || name != strings.ToLower(name) {
			t.Errorf("parseDescription(%q): name %q", text, name)
		}
		if !ok {
			return
		}
		if s.low < 0 || s.high < -1 || s.high >= 0 && s.high < s.low || s.next() != 0 && s.next() <= s.low {
			t.Errorf("parseDescription(%q) = %+v", text, s)
		}
		if again, s2, ok := parseDescription(rangeFrom(name, s.low)); !ok || again != name || s2.low != s.low {
			t.Errorf("rangeFrom(%q, %d) reads back as %q %+v", name, s.low, again, s2)
		}
	})
}
