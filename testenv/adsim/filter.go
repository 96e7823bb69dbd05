package adsim

import (
	"errors"
	"strconv"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// truth is the value of a filter on an entry (RFC 4511 section 4.5.1.7). With this order, AND is
// the minimum and OR the maximum of its parts.
type truth int8

const (
	no truth = iota
	undefined
	yes
)

// filter is a search filter, parsed once per page.
type filter struct {
	op     int // ldap.FilterAnd and its like
	parts  []filter
	key    string // attribute, lower case
	value  string
	rule   string   // OID of an extensible match
	pieces []string // of a substring match: initial, any…, final; empty ends match anything
}

// The bitwise matching rules (MS-ADTS 3.1.1.3.4.4).
const (
	ruleBitAnd = "1.2.840.113556.1.4.803"
	ruleBitOr  = "1.2.840.113556.1.4.804"
)

var errFilter = errors.New("malformed filter")

// parseFilter parses an encoded filter.
func parseFilter(p *ber.Packet) (filter, error) {
	f := filter{op: int(p.Tag)}
	if p.ClassType != ber.ClassContext || p.Tag > ldap.FilterExtensibleMatch {
		return f, errFilter
	}
	switch f.op {
	case ldap.FilterAnd, ldap.FilterOr, ldap.FilterNot:
		for _, child := range p.Children {
			part, err := parseFilter(child)
			if err != nil {
				return f, err
			}
			f.parts = append(f.parts, part)
		}
		if f.op == ldap.FilterNot && len(f.parts) != 1 {
			return f, errFilter
		}
		return f, nil
	case ldap.FilterPresent:
		f.key = foldName(packetText(p))
		return f, nil
	case ldap.FilterExtensibleMatch:
		return f, f.parseExtensible(p)
	}
	if len(p.Children) != 2 {
		return f, errFilter
	}
	f.key = foldName(packetText(p.Children[0]))
	if f.op == ldap.FilterSubstrings {
		f.pieces = parseSubstrings(p.Children[1].Children)
		return f, nil
	}
	f.value = packetText(p.Children[1])
	return f, nil
}

// packetText returns the content of a packet with any tag.
func packetText(p *ber.Packet) string { return p.Data.String() }

func (f *filter) parseExtensible(p *ber.Packet) error {
	for _, child := range p.Children {
		switch child.Tag {
		case ldap.MatchingRuleAssertionMatchingRule:
			f.rule = packetText(child)
		case ldap.MatchingRuleAssertionType:
			f.key = foldName(packetText(child))
		case ldap.MatchingRuleAssertionMatchValue:
			f.value = packetText(child)
		}
	}
	if f.key == "" {
		return errFilter
	}
	return nil
}

// parseSubstrings returns initial, any and final pieces; an open end is empty.
func parseSubstrings(parts []*ber.Packet) []string {
	pieces := []string{""}
	closed := false
	for _, part := range parts {
		switch part.Tag {
		case ldap.FilterSubstringsInitial:
			pieces[0] = foldValue(packetText(part))
		default:
			pieces = append(pieces, foldValue(packetText(part)))
			closed = part.Tag == ldap.FilterSubstringsFinal
		}
	}
	if !closed {
		pieces = append(pieces, "")
	}
	return pieces
}

// eval evaluates the filter on one object as a client sees it.
func (f *filter) eval(d *Directory, i int32) truth {
	switch f.op {
	case ldap.FilterAnd:
		result := yes
		for n := range f.parts {
			if result = min(result, f.parts[n].eval(d, i)); result == no {
				break
			}
		}
		return result
	case ldap.FilterOr:
		result := no
		for n := range f.parts {
			if result = max(result, f.parts[n].eval(d, i)); result == yes {
				break
			}
		}
		return result
	case ldap.FilterNot:
		return yes - f.parts[0].eval(d, i)
	case ldap.FilterPresent:
		if f.key == "objectclass" { // true of every object, regardless of access rights
			return yes
		}
	}
	return f.assert(d.readable(i, f.key))
}

// assert tests the values of the attribute. Without values it is Undefined, but a presence test is
// False.
func (f *filter) assert(values []string) truth {
	if f.op == ldap.FilterPresent {
		if len(values) > 0 {
			return yes
		}
		return no
	}
	result := undefined
	for _, v := range values {
		switch t := f.match(v); t {
		case yes:
			return yes
		case no:
			result = no
		}
	}
	return result
}

// match tests one value.
func (f *filter) match(value string) truth {
	switch f.op {
	case ldap.FilterSubstrings:
		return boolean(f.matchPieces(foldValue(value)))
	case ldap.FilterExtensibleMatch:
		return f.matchBits(value)
	}
	order, ok := compare(f.key, value, f.value)
	if !ok {
		return undefined
	}
	switch f.op {
	case ldap.FilterGreaterOrEqual:
		return boolean(order >= 0)
	case ldap.FilterLessOrEqual:
		return boolean(order <= 0)
	}
	return boolean(order == 0)
}

// matchPieces finds the pieces of a substring filter in order.
func (f *filter) matchPieces(value string) bool {
	last := len(f.pieces) - 1
	value, ok := strings.CutPrefix(value, f.pieces[0])
	if !ok {
		return false
	}
	for _, piece := range f.pieces[1:last] {
		if _, value, ok = strings.Cut(value, piece); !ok {
			return false
		}
	}
	return strings.HasSuffix(value, f.pieces[last])
}

func (f *filter) matchBits(value string) truth {
	v, err1 := strconv.ParseInt(value, 10, 64)
	bits, err2 := strconv.ParseInt(f.value, 10, 64)
	switch {
	case err1 != nil || err2 != nil:
		return undefined
	case f.rule == ruleBitAnd:
		return boolean(v&bits == bits)
	case f.rule == ruleBitOr:
		return boolean(v&bits != 0)
	}
	return undefined
}

func boolean(b bool) truth {
	if b {
		return yes
	}
	return no
}
