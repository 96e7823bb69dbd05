package config

import (
	"slices"
	"strconv"
)

// What follows reads the keys whose work this version does not do. They are checked
// like all others, and accepted where they hold the value that switches them off or
// stands by default: a file that asks for more than it gets is an error.

func (v value) notYet(off any) {
	v.fail("%s is not supported by this version yet; leave the key out or set it to %v", v.node, off)
}

// later reads a text. With one word any text has the right type, with several only
// those; the first is the one accepted.
func later(words ...string) field {
	return func(v value) {
		got := words[0]
		if len(words) > 1 {
			choice(&got, words...)(v)
		} else {
			got, _ = v.text("a text")
		}
		if got != words[0] && v.node.kind == text && (len(words) == 1 || slices.Contains(words, got)) {
			v.notYet(quoted(words[0]))
		}
	}
}

// laterList reads a list of texts; the empty one is accepted.
func laterList(what string) field {
	return func(v value) {
		var found []string
		before := len(v.errs)
		unique(&found, what, nonEmpty)(v)
		if len(found) > 0 && len(v.errs) == before {
			v.fail("entries are not supported by this version yet; leave the key out or set it to []")
		}
	}
}

// laterFlag reads true or false; false is accepted.
func laterFlag() field {
	return func(v value) {
		if v.node.kind != boolean {
			v.expected("true or false")
		} else if on, _ := strconv.ParseBool(v.node.source); on {
			v.notYet(false)
		}
	}
}
