package address

import (
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// fold brings text into the form in which it is compared: the canonical caseless
// match of Unicode (section 3.13, D145), composed again. Full folding, as in
// Postfix (ICU's default) and as Active Directory compares: "Straße" and "STRASSE"
// are one.
func fold(text string) string {
	if ascii, folded := foldASCII(text); ascii {
		return folded
	}
	text = norm.NFD.String(text)
	// A caser keeps state while it works, so every call makes its own.
	text = cases.Fold().String(text)
	// Folding may undo decomposition (U+0345 and a few others), so both once more.
	return norm.NFC.String(cases.Fold().String(norm.NFD.String(text)))
}

// foldASCII lower-cases text that is all ASCII, which nearly all of it is; nothing
// is allocated where nothing changes.
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
