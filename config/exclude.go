package config

import (
	"fmt"
	"slices"
	"strings"
)

// checkExcludes finds excluded subtrees that contradict the bases: those that contain a
// base, and those outside all bases.
func (r *reader) checkExcludes(path string, d Directory) {
	for i, excluded := range d.Exclude {
		at := fmt.Sprintf("%s.exclude[%d]", path, i)
		if base := slices.IndexFunc(d.Bases, func(base string) bool { return isWithin(base, excluded) }); base >= 0 {
			r.failAt(r.at[at], "%s: %s contains the base %s, which then has no recipients; remove one of the two",
				at, quoted(excluded), quoted(d.Bases[base]))
			continue
		}
		inside := func(base string) bool { return isWithin(excluded, base) || isEscaped(base) || isEscaped(excluded) }
		if len(d.Bases) > 0 && !slices.ContainsFunc(d.Bases, inside) {
			r.failAt(r.at[at], "%s: %s is outside all bases and has no effect; correct or remove it",
				at, quoted(excluded))
		}
	}
}

// isWithin reports whether a distinguished name is a subtree or below it. It does not
// interpret escapes.
func isWithin(dn, subtree string) bool {
	dn, subtree = plainDN(dn), plainDN(subtree)
	return dn == subtree || strings.HasSuffix(dn, ","+subtree)
}

// isEscaped reports whether a name has escapes. Other spellings may then mean the same name.
func isEscaped(dn string) bool { return strings.Contains(dn, `\`) }

// plainDN returns a name in lower case without spaces around commas and equal signs.
func plainDN(dn string) string {
	parts := strings.Split(strings.ToLower(dn), ",")
	for i, part := range parts {
		name, value, _ := strings.Cut(part, "=")
		parts[i] = strings.TrimSpace(name) + "=" + strings.TrimSpace(value)
	}
	return strings.Join(parts, ",")
}
