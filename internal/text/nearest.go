package text

import "strings"

// Nearest returns the name that was probably meant: the one with the fewest edits, if they
// are few for its length, otherwise the only one with the same beginning, otherwise "".
func Nearest(got string, names []string) string {
	if len(got) > 64 { // not a typing error
		return ""
	}
	folded := foldName(got)
	best, least := "", 1+max(1, len(folded)/3)
	for _, name := range names {
		if d := distance(folded, foldName(name)); d < least {
			best, least = name, d
		}
	}
	if best != "" || len(folded) < 3 {
		return best
	}
	for _, name := range names {
		if plain := foldName(name); strings.HasPrefix(plain, folded) || strings.HasPrefix(folded, plain) {
			if best != "" {
				return ""
			}
			best = name
		}
	}
	return best
}

func foldName(name string) string { return strings.ReplaceAll(strings.ToLower(name), "-", "_") }

// distance returns the number of bytes to insert, delete, replace or transpose to turn a
// into b (optimal string alignment).
func distance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(next[j-1]+1, row[j]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
