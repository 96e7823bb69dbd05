package address

import (
	"strings"
	"testing"
)

func TestWithoutTag(t *testing.T) {
	for _, c := range []struct{ name, prefix, address, want string }{
		{"prvs", "prvs=", "prvs=0123abcdef=ann@corp.example", "ann@corp.example"},
		{"upper case", "prvs=", "PRVS=0123ABCDEF=Ann@Corp.Example", "ann@corp.example"},
		{"Barracuda", "btv1==", "btv1==012abc==ann@corp.example", "ann@corp.example"},
		{"Message Systems", "msprvs1=", "msprvs1=18xy/+z._-=ann@corp.example", "ann@corp.example"},
		{"mailbox with =", "prvs=", "prvs=0=a=b@corp.example", "a=b@corp.example"},
		{"mailbox with extension", "prvs=", "prvs=0=ann+news@corp.example", "ann+news@corp.example"},
		{"quoted", "prvs=", `"prvs=0=ann lee"@corp.example`, `"ann lee"@corp.example`},
		{"quotes no longer needed", "prvs=", `"prvs=0=ann"@corp.example`, "ann@corp.example"},
		{"one tag only", "prvs=", "prvs=0=prvs=1=ann@corp.example", "prvs=1=ann@corp.example"},
		{"longest tag", "prvs=", "prvs=" + strings.Repeat("a", maxTag) + "=ann@corp.example", "ann@corp.example"},
		{"tag too long", "prvs=", "prvs=" + strings.Repeat("a", maxTag+1) + "=ann@corp.example", ""},
		{"no tag", "prvs=", "prvs==ann@corp.example", ""},
		{"no mailbox", "prvs=", "prvs=0123abcdef=@corp.example", ""},
		{"no end", "prvs=", "prvs=0123abcdef@corp.example", ""},
		{"old order", "prvs=", "prvs=ann/0123abcdef@corp.example", ""},
		{"odd tag", "prvs=", "prvs=01!2=ann@corp.example", ""},
		{"more separators", "prvs=", "prvs=0==ann@corp.example", ""},
		{"another prefix", "prvs=", "xprvs=0=ann@corp.example", ""},
		{"plain", "prvs=", "ann@corp.example", ""},
		{"prefix without separator", "prvs", "prvs0ann@corp.example", ""},
		{"no prefix", "", "ann@corp.example", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := Parse(c.address)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := a.WithoutTag(c.prefix)
			if got.String() != c.want || ok != (c.want != "") {
				t.Errorf("%q, %v; want %q", got, ok, c.want)
			}
		})
	}
	if got, ok := (Address{}).WithoutTag("prvs="); ok || !got.IsZero() {
		t.Errorf("of no address: %v", got)
	}
}

// FuzzWithoutTag: what is left is a canonical address of the same domain, shorter by the tag.
func FuzzWithoutTag(f *testing.F) {
	for _, seed := range []string{"prvs=0123abcdef=ann@corp.example", `"prvs=0=a b"@x.test`, "prvs==a@x.test",
		`"prvs=0=\""@x.test`, "prvs=0=a..b@x.test", "prvs=0=\u00e4@x.test", `"prvs=0=@"@x.test`, "prvs=0=.@x.test"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text)
		if err != nil {
			return
		}
		base, ok := a.WithoutTag("prvs=")
		if !ok {
			return
		}
		again, err := Parse(base.String())
		if err != nil || again != base || base.Domain() != a.Domain() || len(base.String()) >= len(a.String()) {
			t.Errorf("%q of %q; read again: %q, %v", base, a, again, err)
		}
	})
}
