package address

import (
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// fold returns text in the form for comparison: the canonical caseless match of Unicode
// (section 3.13, D145), composed again. The package comment has the reason.
func fold(text string) string {
	if ascii, folded := foldASCII(text); ascii {
		return folded
	}
	text = foldCase(norm.NFD.String(text))
	// Folding may undo decomposition (U+0345 and a few others), so both once more.
	return norm.NFC.String(foldCase(norm.NFD.String(text)))
}

// foldCase applies the full case folding of CaseFolding.txt, statuses C and F. A Caser has
// state, so every call makes its own.
func foldCase(text string) string {
	return strings.Map(foldCherokee, cases.Fold().String(text))
}

// foldCherokee adds what the library lacks: small Cherokee letters, which are newer than the
// capital ones, fold to the capital ones.
func foldCherokee(r rune) rune {
	switch {
	case 0xAB70 <= r && r <= 0xABBF:
		return r - 0xAB70 + 0x13A0
	case 0x13F8 <= r && r <= 0x13FD:
		return r - 0x13F8 + 0x13F0
	}
	return r
}

// foldASCII lower-cases ASCII text, the usual case. It allocates only if the text changes.
func foldASCII(text string) (ascii bool, folded string) {
	upper := false
	for i := 0; i < len(text); i++ {
		if text[i] >= 0x80 {
			return false, ""
		}
		upper = upper || 'A' <= text[i] && text[i] <= 'Z'
	}
	if !upper {
		return true, text
	}
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return true, string(b)
}
