package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	tokenOne   = "0123456789abcdef0123456789abcdef" // 32 hexadecimal digits
	tokenTwo   = "Zm9vYmFyYmF6cXV4LS0tLT"           // 22 characters of Base64
	tokenThree = "fedcba9876543210FEDCBA9876543210"
)

func tokenOf(text string, line int, domains ...string) Token {
	return Token{Sum: sha256.Sum256([]byte(text)), All: len(domains) == 0, Domains: domains, Line: line}
}

func TestParseTokens(t *testing.T) {
	many := strings.Repeat("x", 20)
	for _, c := range []struct {
		name, text string
		want       []Token
	}{
		{"one for everything", tokenOne, []Token{tokenOf(tokenOne, 1)}},
		{"several for everything, with comments", "# desk\n" + tokenOne + "\n\n  " + tokenTwo + "\r\n#" + tokenThree,
			[]Token{tokenOf(tokenOne, 2), tokenOf(tokenTwo, 4)}},
		{"everything, said", tokenOne + " *", []Token{tokenOf(tokenOne, 1)}},
		{"tenants", tokenOne + " *\n" + tokenTwo + "\tExample.com. \t .Example.org\n" + tokenThree + " münchen.example",
			[]Token{tokenOf(tokenOne, 1), tokenOf(tokenTwo, 2, "example.com", ".example.org"),
				tokenOf(tokenThree, 3, "xn--mnchen-3ya.example")}},
		{"a hash sign within", many + "#$%&'()", []Token{tokenOf(many+"#$%&'()", 1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseTokens([]byte(c.text))
			if d := cmp.Diff(c.want, got); err != nil || d != "" {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
		})
	}
}

// TestHostileTokens: a wrong line makes the file unusable, whatever else is in it. Its error names the
// line, and nothing of a token.
func TestHostileTokens(t *testing.T) {
	lines := func(n int, line func(i int) string) string {
		var all strings.Builder
		for i := range n {
			all.WriteString(line(i) + "\n")
		}
		return all.String()
	}
	token := func(i int) string { return fmt.Sprintf("0123456789abcdef%016x", i) }
	for _, c := range []struct {
		name, text string
		line       int // that the error names; 0 means none
	}{
		{"empty", "", 0},
		{"comments only", "# " + tokenOne + "\n\n", 0},
		{"63 bits in hexadecimal", tokenOne + "\n" + tokenOne[:31], 2},
		{"digits only", tokenOne + "\n01234567890123456789012345678901234567", 2},
		{"Base64 that is short", tokenTwo[1:], 1},
		{"a placeholder", tokenOne + "\n" + strings.Repeat("changeme", 5), 2},
		{"too long", strings.Repeat(tokenOne, 17), 1},
		{"not ASCII", tokenOne + "ä", 1},
		{"a byte order mark", "\ufeff" + tokenOne, 1},
		{"NUL", tokenOne + "\x00", 1},
		{"an escape sequence", tokenOne + "\x1b[2J", 1},
		{"a line separator of Unicode", tokenOne + "\u2028" + tokenTwo, 1},
		{"twice", tokenOne + "\n" + tokenTwo + "\n" + tokenOne, 3},
		{"twice with other domains", tokenOne + " example.com\n" + tokenOne + " example.org", 2},
		{"domains forgotten", tokenOne + " example.com\n" + tokenTwo, 2},
		{"domains forgotten beside a star", tokenOne + "\n" + tokenTwo + " *", 1},
		{"a star and a domain", tokenOne + " example.com *", 1},
		{"a star in a domain", tokenOne + " *.example.com", 1},
		{"an address", tokenOne + " jane@example.com", 1},
		{"a comma", tokenOne + " example.com,example.org", 1},
		{"a comment behind", tokenOne + " example.com # customer", 1},
		{"the root", tokenOne + " .", 1},
		{"dots", tokenOne + " ..example.com", 1},
		{"a domain twice", tokenOne + " example.com EXAMPLE.com.", 1},
		{"a domain with NUL", tokenOne + " example\x00.com", 1},
		{"a broken domain", tokenOne + " exa\xffmple.com", 1},
		{"a long domain", tokenOne + " " + strings.Repeat("a.", 5000) + "example", 1},
		{"many domains", tokenOne + lines(101, func(i int) string { return fmt.Sprintf(" d%d.example", i) }), 2},
		{"many domains in a line", tokenOne + strings.ReplaceAll(lines(101, func(i int) string {
			return fmt.Sprintf(" d%d.example", i)
		}), "\n", ""), 1},
		{"many tokens", lines(1001, token), 1001},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseTokens([]byte(c.text))
			if err == nil || got != nil {
				t.Fatalf("accepted: %+v", got)
			}
			said := err.Error()
			if c.line != 0 && !strings.Contains(said, fmt.Sprintf("line %d: ", c.line)) {
				t.Errorf("the error does not name line %d: %v", c.line, err)
			}
			for _, secret := range []string{tokenOne[:10], tokenTwo[:10], "changeme", "jane"} {
				if strings.Contains(said, secret) {
					t.Errorf("the error quotes the file: %v", err)
				}
			}
			if len(said) > 4096 {
				t.Errorf("the error has %d characters", len(said))
			}
		})
	}
	if _, err := ParseTokens([]byte(lines(1000, token))); err != nil {
		t.Errorf("1000 tokens: %v", err)
	}
	_, err := ParseTokens([]byte(lines(50, func(int) string { return "short" })))
	if n := strings.Count(err.Error(), "line "); n != maxTokenErrors {
		t.Errorf("of 50 wrong lines the error names %d", n)
	}
}

func TestReadTokens(t *testing.T) {
	settled := func(content string, mode os.FileMode) string {
		path := write(t, "tokens", content, 0o600)
		old := time.Now().Add(-time.Hour)
		if err := errors.Join(os.Chmod(path, mode), os.Chtimes(path, old, old)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name string
		path string
		good bool
	}{
		{"for the owner", settled(tokenOne, 0o600), true},
		{"for the group", settled(tokenOne, 0o640), true},
		{"readable by every account", settled(tokenOne, 0o644), true}, // the check warns
		{"too large", settled(strings.Repeat("#\n", maxTokenFile/2)+tokenOne, 0o600), false},
		{"a directory", t.TempDir(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens, err := ReadTokens(c.path)
			if (err == nil) != c.good || (len(tokens) == 1) != c.good {
				t.Errorf("%v, %v", tokens, err)
			}
			if err != nil && !strings.Contains(err.Error(), c.path) {
				t.Errorf("the error does not name the file: %v", err)
			}
		})
	}
	if _, err := ReadTokens(t.TempDir() + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestTokenDomains: the check warns of a domain that is not in domains, and names only its line.
func TestTokenDomains(t *testing.T) {
	const text = tokenOne + " example.com other.example\n" + tokenTwo + " .example.org .com a.example.org\n" +
		tokenThree + " example.org\n"
	path := write(t, "tokens", text, 0o600)
	c := &Config{Page: Page{Tokens: path}, Domains: map[string]Mode{"example.com": Enforce, ".example.org": Report}}
	warnings, err := c.CheckFiles()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		_, place, _ := strings.Cut(w.Error(), path+", ")
		place, _, _ = strings.Cut(place, " is not")
		got = append(got, place)
	}
	if want := []string{"line 1: domain 2", "line 3: domain 1"}; !slices.Equal(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
}

// FuzzTokens: what is accepted has tokens of 128 bits, each once, with canonical domains; errors are
// short and have no token.
func FuzzTokens(f *testing.F) {
	f.Add([]byte(tokenOne + " example.com .example.org\n# comment\n" + tokenTwo + " *\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tokens, err := ParseTokens(data)
		if (err == nil) != (len(tokens) > 0) {
			t.Fatalf("%v, %v", tokens, err)
		}
		if err != nil {
			if len(err.Error()) > 4096 {
				t.Errorf("an error of %d characters", len(err.Error()))
			}
			for word := range strings.FieldsSeq(string(data)) {
				if len(word) >= minToken && !strings.Contains(word, ":") && strings.Contains(err.Error(), word) {
					t.Errorf("the error quotes %q: %v", word, err)
				}
			}
			return
		}
		seen, bare := map[[sha256.Size]byte]bool{}, 0
		for _, token := range tokens {
			if seen[token.Sum] || token.Line < 1 || token.All != (len(token.Domains) == 0) ||
				len(token.Domains) > maxTokenDomains {
				t.Errorf("accepted %+v", token)
			}
			seen[token.Sum] = true
			if token.All {
				bare++
			}
			for _, domain := range token.Domains {
				if again, err := parseDomain(domain); err != nil || again != domain {
					t.Errorf("domain %q is not canonical: %q, %v", domain, again, err)
				}
			}
		}
		if len(tokens) > maxTokens {
			t.Errorf("%d tokens", len(tokens))
		}
	})
}
