package address

import (
	"slices"
	"strings"
	"testing"
)

func TestFollowAliases(t *testing.T) {
	for _, c := range []struct {
		name    string
		aliases map[string]string // targets, separated by spaces
		want    string            // reached from a; an alias is followed by "+"
	}{
		{"no alias", map[string]string{"b": "c"}, ""},
		{"one step", map[string]string{"a": "b"}, "b"},
		{"two steps", map[string]string{"a": "b", "b": "c"}, "b+ c"},
		{"several targets, nearest first", map[string]string{"a": "b c", "b": "d"}, "b+ c d"},
		{"twice", map[string]string{"a": "b b c", "b": "c"}, "b+ c"},
		{"itself", map[string]string{"a": "a"}, ""},
		{"circle", map[string]string{"a": "b", "b": "c", "c": "a"}, "b+ c+"},
		{"circle behind", map[string]string{"a": "b", "b": "c", "c": "b"}, "b+ c+"},
	} {
		t.Run(c.name, func(t *testing.T) {
			direct := func(domain string) []string { return strings.Fields(c.aliases[domain]) }
			var got []string
			for target, alias := range FollowAliases("a", direct, strings.ToLower) {
				if alias {
					target += "+"
				}
				got = append(got, target)
			}
			if !slices.Equal(got, strings.Fields(c.want)) {
				t.Errorf("%v leads to %v, want %s", c.aliases, got, c.want)
			}
			for range FollowAliases("a", direct, strings.ToLower) { // a caller may stop
				break
			}
		})
	}
}

func TestAliasChain(t *testing.T) {
	for _, c := range []struct {
		name    string
		aliases map[string]string
		want    string
		loop    bool
	}{
		{"no alias", map[string]string{"b": "c"}, "", false},
		{"one step", map[string]string{"a": "b"}, "b", false},
		{"two steps", map[string]string{"a": "b", "b": "c"}, "b c", false},
		{"itself", map[string]string{"a": "a"}, "a", true},
		{"loop", map[string]string{"a": "b", "b": "a"}, "b a", true},
		{"leads into a loop", map[string]string{"a": "b", "b": "c", "c": "b"}, "b c b", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, loop := AliasChain(c.aliases, "a")
			if !slices.Equal(got, strings.Fields(c.want)) || loop != c.loop {
				t.Errorf("AliasChain = %v, %t, want %s, %t", got, loop, c.want, c.loop)
			}
		})
	}
}

// TestUnquoted: the content of a canonical address, quoted again, is that address.
func TestUnquoted(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"jane@corp.example", "jane"},
		{`"jane doe"@corp.example`, "jane doe"},
		{`"a\"b\\c"@corp.example`, `a"b\c`},
		{`"a@b"@corp.example`, "a@b"},
		{`""@corp.example`, ""},
		{`"x".y@corp.example`, "x.y"},
	} {
		t.Run(c.text, func(t *testing.T) {
			a, err := Parse(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Unquoted(); got != c.want {
				t.Errorf("%s means %q, want %q", a, got, c.want)
			}
			if again := quote(a.Unquoted()) + "@" + a.Domain(); again != a.String() {
				t.Errorf("%s is quoted again as %s", a, again)
			}
		})
	}
}
