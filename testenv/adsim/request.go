package adsim

import (
	"slices"
	"strconv"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// selection is the list of requested attributes.
type selection struct {
	all  bool
	list []wanted
}

// wanted is one requested attribute, optionally with a range of its values (MS-ADTS
// 3.1.1.3.1.3.3).
type wanted struct {
	key       string
	ranged    bool
	low, high int // high -1: to the end
}

// parseRequest parses a SearchRequest (RFC 4511 section 4.5.1) and its controls.
func parseRequest(op *ber.Packet, controls []*ber.Packet) (*request, error) {
	malformed := ldapError{ldap.LDAPResultProtocolError, "malformed search request"}
	if len(op.Children) != 8 {
		return nil, malformed
	}
	scope, ok := op.Children[1].Value.(int64)
	if !ok || scope < 0 || scope > 2 {
		return nil, malformed
	}
	req := &request{Search: Search{Base: packetText(op.Children[0]), Scope: int(scope), Controls: map[string]bool{}}}
	req.typesOnly, _ = op.Children[5].Value.(bool)
	var err error
	if req.filter, err = parseFilter(op.Children[6]); err != nil {
		return nil, malformed
	}
	if req.Filter, err = ldap.DecompileFilter(op.Children[6]); err != nil {
		return nil, malformed
	}
	for _, a := range op.Children[7].Children {
		req.Attributes = append(req.Attributes, packetText(a))
	}
	if req.selection, ok = parseSelection(req.Attributes); !ok {
		return nil, malformed
	}
	for _, control := range controls {
		if !req.parseControl(control) {
			return nil, malformed
		}
	}
	return req, nil
}

func (r *request) parseControl(p *ber.Packet) bool {
	if len(p.Children) == 0 {
		return false
	}
	oid, critical, value := packetText(p.Children[0]), false, []byte(nil)
	for _, child := range p.Children[1:] {
		switch child.Tag {
		case ber.TagBoolean:
			critical, _ = child.Value.(bool)
		case ber.TagOctetString:
			value = child.Data.Bytes()
		}
	}
	r.Controls[oid] = critical
	if oid != oidPaging {
		return true
	}
	paging, err := ber.DecodePacketErr(value)
	if err != nil || len(paging.Children) != 2 {
		return false
	}
	size, ok := paging.Children[0].Value.(int64)
	r.pageSize, r.cookie = max(int(size), 1), packetText(paging.Children[1])
	return ok
}

// parseSelection parses the attribute list: none or "*" means all, "1.1" means none.
func parseSelection(names []string) (s selection, ok bool) {
	s.all = len(names) == 0
	for _, name := range names {
		switch name {
		case "*":
			s.all = true
			continue
		case "1.1":
			continue
		}
		base, option, ranged := strings.Cut(foldName(name), ";range=")
		w := wanted{key: base, ranged: ranged, high: -1}
		if ranged {
			low, high, _ := strings.Cut(option, "-")
			var err error
			if w.low, err = strconv.Atoi(low); err != nil {
				return s, false
			}
			if high != "*" {
				if w.high, err = strconv.Atoi(high); err != nil {
					return s, false
				}
			}
		}
		if !slices.ContainsFunc(s.list, func(o wanted) bool { return o.key == w.key }) {
			s.list = append(s.list, w)
		}
	}
	return s, true
}

// cut returns the values of one answer and the range option, empty if these are all values. ok is
// false if the range begins past the end.
func (w wanted) cut(values []string, limit int) (part []string, option string, ok bool) {
	if !w.ranged && len(values) <= limit {
		return values, "", true
	}
	if w.low >= len(values) {
		return nil, "", false
	}
	end := min(w.low+limit, len(values))
	if w.high >= 0 {
		end = min(end, w.high+1)
	}
	last := "*"
	if end < len(values) {
		last = strconv.Itoa(end - 1)
	}
	return values[w.low:max(w.low, end)], ";range=" + strconv.Itoa(w.low) + "-" + last, true
}
