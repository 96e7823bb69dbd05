package address

import (
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// A letter is folded like all its case variants, by Unicode's own list of them.
func TestFoldJoinsCases(t *testing.T) {
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		for s := unicode.SimpleFold(r); s != r; s = unicode.SimpleFold(s) {
			if got, want := fold(string(r)), fold(string(s)); got != want {
				t.Errorf("fold of %U is %q, of its variant %U %q", r, got, s, want)
			}
		}
	}
}

// orderly is a form of text without regard to single letters' case and to composition,
// made without the full case folding: each letter by the first of its variants.
func orderly(text string) string {
	var out []rune
	for _, r := range norm.NFD.String(text) {
		first := r
		for s := unicode.SimpleFold(r); s != r; s = unicode.SimpleFold(s) {
			first = min(first, s)
		}
		out = append(out, []rune(norm.NFD.String(string(first)))...)
	}
	return norm.NFD.String(string(out))
}

// Single letters that fold alike are variants of each other, or the same text in two
// encodings: nothing else is joined, but for the two ligatures of st.
func TestFoldJoinsNothingElse(t *testing.T) {
	groups := map[string]rune{"st": '\uFB05'}
	for r := rune(0x80); r <= 0x1FFFF; r++ {
		if !unicode.IsGraphic(r) || unicode.In(r, unicode.Han, unicode.Hangul, unicode.Tangut) || r == '\uFB06' {
			continue
		}
		folded := fold(string(r))
		first, seen := groups[folded]
		if !seen {
			groups[folded] = r
		} else if orderly(string(first)) != orderly(string(r)) {
			t.Errorf("%U %c and %U %c are folded to %q both", first, first, r, r, folded)
		}
	}
}

// Pairs of local parts, whether Active Directory takes them for the same and whether we
// do. It compares linguistically, by the sorting weights of Windows (here those of
// version 6.3) without case, width, kana type and non-spacing marks, for en-US. What we
// join it must join too.
var foldPairs = []struct {
	a, b     string
	ad, ours bool
}{
	{"ANN", "ann", true, true},
	{"STRASSE", "straße", true, true},
	{"STRAẞE", "strasse", true, true},
	{"ΣΊΣΥΦΟΣ", "σίσυφος", true, true},
	{"σίσυφοσ", "σίσυφος", true, true},
	{"\u212A", "k", true, true}, // Kelvin sign
	{"\u212B", "å", true, true}, // Ångström sign
	{"e\u0301", "é", true, true},
	{"É", "é", true, true},
	{"ﬁsh", "fish", true, true},
	{"ǅungla", "ǆungla", true, true},
	{"\u0149a", "\u02BCna", true, true},
	{"И", "и", true, true},

	// The directory joins more, and so finds more than we take.
	{"é", "e", true, false},
	{"ö", "o", true, false},
	{"å", "a", true, false},
	{"ø", "o", true, false},
	{"ł", "l", true, false},
	{"æ", "ae", true, false},
	{"þ", "th", true, false},
	{"ı", "i", true, false}, // the dotless one, where Turkish is not spoken
	{"İ", "i", true, false},
	{"Ａｎｎ", "ann", true, false},
	{"か", "カ", true, false},
	{"が", "か", true, false},
	{"a\u00ADb", "ab", true, false}, // soft hyphen

	{"ö", "oe", false, false},
	{"ŋ", "n", false, false},
	{"a.b", "ab", false, false},
	{"o'b", "ob", false, false},
	{"co-op", "coop", false, false},
	{"а", "a", false, false}, // Cyrillic
	{"a\u200Bb", "ab", false, false},
}

// Pairs that the directory keeps apart and we do not. Postfix has folded them into one
// before we see them, so that nobody can tell them apart, and keeping them apart in the
// index would refuse the mail of the first of each.
var foldedBefore = [][2]string{
	{"\u00B5", "\u03BC"}, // micro sign, mu
	{"ſ", "s"},
	{"\uFB05", "st"},
	{"ᾳ", "αι"}, // and the other letters with a iota below
	{"Ა", "ა"},  // capital letters that Windows 6.3 does not have yet
}

func TestFoldPairs(t *testing.T) {
	for _, c := range foldPairs {
		if got := fold(c.a) == fold(c.b); got != c.ours {
			t.Errorf("%q and %q are the same: %v, want %v", c.a, c.b, got, c.ours)
		}
		if c.ours && !c.ad {
			t.Errorf("%q and %q are joined, and two mailboxes in the directory", c.a, c.b)
		}
	}
	for _, pair := range foldedBefore {
		if fold(pair[0]) != fold(pair[1]) {
			t.Errorf("%q and %q are kept apart", pair[0], pair[1])
		}
	}
}
