package address

import (
	"iter"
	"slices"
	"strings"
)

// typed are the characters that a slip of the finger may put into a local part.
const typed = "abcdefghijklmnopqrstuvwxyz0123456789.-_'+"

// Neighbours yields the addresses of the same domain whose local part is one slip of
// the finger away: a character left out, put in, replaced, or swapped with the next.
// Some may come twice. There are about 85 for each character; of a local part that
// needs quotes there are none.
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

// slips yields the texts that are one edit away (Damerau and Levenshtein count a swap
// of neighbours as one too).
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
