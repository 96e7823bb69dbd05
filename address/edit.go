package address

import (
	"iter"
	"slices"
	"strings"
)

// typed are the characters of typing errors.
const typed = "abcdefghijklmnopqrstuvwxyz0123456789.-_'+"

// Neighbours yields the addresses of the same domain whose local part is one typing error
// away: a character missing, added, replaced, or swapped with the next. Some may occur
// twice. There are about 85 for each character, and none if the local part needs quotes.
func (a Address) Neighbours() iter.Seq[Address] {
	return func(yield func(Address) bool) {
		if a.IsZero() || strings.HasPrefix(a.Local(), `"`) {
			return
		}
		domain := "@" + a.Domain()
		for local := range slips([]rune(a.Local())) {
			// It is canonical: nothing in it needs quotes, and the domain stays.
			other := Address{fold(local) + domain}
			if local != "" && len(other.text) <= MaxLength && other != a && !yield(other) {
				return
			}
		}
	}
}

// slips yields the texts at a Damerau-Levenshtein distance of one.
func slips(text []rune) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range text {
			if !yield(string(slices.Delete(slices.Clone(text), i, i+1))) {
				return
			}
			if i+1 < len(text) {
				swapped := slices.Clone(text)
				swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
				if !yield(string(swapped)) {
					return
				}
			}
		}
		for i := range len(text) + 1 {
			for _, c := range typed {
				if !yield(string(slices.Insert(slices.Clone(text), i, c))) {
					return
				}
				if i == len(text) {
					continue
				}
				replaced := slices.Clone(text)
				if replaced[i] = c; !yield(string(replaced)) {
					return
				}
			}
		}
	}
}
