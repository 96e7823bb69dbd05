package adsim

import (
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// numeric are the attributes with integer syntax; all others compare as folded text.
var numeric = map[string]bool{
	"usnchanged": true, "usncreated": true, "useraccountcontrol": true, "grouptype": true,
	"msexchrecipienttypedetails": true, "instancetype": true,
}

// binaries are the attributes with octet string syntax, which compare byte by byte.
var binaries = map[string]bool{"objectguid": true, "invocationid": true}

// foldValue returns text in the form that Active Directory compares. It ignores case, accents and
// width, although mailboxes may differ in them.
func foldValue(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(s))
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// compare compares a value with an assertion by the syntax of the attribute. ok is false if the
// assertion does not match the syntax.
func compare(key, value, assertion string) (order int, ok bool) {
	switch {
	case numeric[key]:
		v, err1 := strconv.ParseInt(value, 10, 64)
		a, err2 := strconv.ParseInt(assertion, 10, 64)
		switch {
		case err1 != nil || err2 != nil:
			return 0, false
		case v < a:
			return -1, true
		case v > a:
			return 1, true
		}
		return 0, true
	case binaries[key]:
		return strings.Compare(value, assertion), true
	}
	return strings.Compare(foldValue(value), foldValue(assertion)), true
}
