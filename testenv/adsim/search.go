package adsim

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// The controls that the server supports (MS-ADTS 3.1.1.3.4.1, RFC 2696).
const (
	oidPaging       = "1.2.840.113556.1.4.319"
	oidShowDeleted  = "1.2.840.113556.1.4.417"
	oidShowRecycled = "1.2.840.113556.1.4.2064"
	oidDomainScope  = "1.2.840.113556.1.4.1339"
	oidRangeNoError = "1.2.840.113556.1.4.1948"
)

var supportedControls = []string{oidPaging, oidShowDeleted, oidShowRecycled, oidDomainScope, oidRangeNoError,
	oidNotification}

// cursor is the state behind a paging cookie: the next page, and the search it belongs to.
type cursor struct {
	next   int32
	page   int
	search string
}

// request is a parsed search.
type request struct {
	Search
	filter    filter
	typesOnly bool
	selection selection
	pageSize  int // 0: not paged
	cookie    string
	from      cursor
	view      view
}

// ldapError is a result code other than success.
type ldapError struct {
	code       int
	diagnostic string
}

func (f ldapError) Error() string { return fmt.Sprintf("result %d: %s", f.code, f.diagnostic) }

// search answers one search request, or one page of it.
func (c *session) search(id int64, op *ber.Packet, controls []*ber.Packet) error {
	c.server.count(func(s *Stats) { s.Searches++ })
	req, err := parseRequest(op, controls)
	if err == nil {
		req.view = c.view
	}
	if err == nil && req.Base == "" && req.Scope == ldap.ScopeBaseObject {
		return c.send(append(message(id, c.server.rootDSE(req)), message(id, result(tagSearchDone, 0, ""))...))
	}
	if err == nil {
		err = c.validate(req)
	}
	faults := c.server.currentFaults()
	if err == nil && faults.BeforePage != nil {
		faults.BeforePage(req.Search)
	}
	if faults.SilentSearch || !c.delay(faults.Delay) {
		return c.discardInput()
	}
	if err == nil && hasControl(req.Controls, oidNotification) {
		if err = c.startNotification(id, req); err == nil {
			return nil
		}
	}
	var found page
	if err == nil {
		found, err = c.findPage(req, faults)
	}
	var refusal ldapError
	if errors.As(err, &refusal) {
		if refusal.code == ldap.LDAPResultReferral {
			return c.send(message(id, referralResult("ldap://elsewhere.example/"+req.Base)))
		}
		return c.send(message(id, result(tagSearchDone, refusal.code, refusal.diagnostic)))
	}
	if err != nil {
		return err
	}
	return c.sendPage(id, req, found, faults)
}

// delay waits like a slow server. It returns false if the connection ended meanwhile.
func (c *session) delay(d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ended:
		return false
	}
}

// validate checks rights, controls and the paging cookie.
func (c *session) validate(req *request) error {
	if !c.bound {
		return ldapError{ldap.LDAPResultOperationsError, "000004DC: LdapErr: DSID-0C090A5C, comment: In order to " +
			"perform this operation a successful bind must be completed on the connection., data 0, v4563"}
	}
	for oid, critical := range req.Controls {
		if critical && !known(oid) {
			return ldapError{ldap.LDAPResultUnavailableCriticalExtension,
				"00000057: LdapErr: DSID-0C09079A, comment: Error processing control, data 0, v4563"}
		}
	}
	req.Page = 1
	if req.cookie == "" {
		if req.pageSize > 0 && c.server.config.OnePagedSearch {
			clear(c.cookies)
		}
		return nil
	}
	at, ok := c.cookies[req.cookie]
	delete(c.cookies, req.cookie)
	if !ok || at.search != req.searchKey() || c.server.dropsCookie() {
		return ldapError{ldap.LDAPResultUnwillingToPerform, "00000057: LdapErr: DSID-0C090A7D, comment: Error " +
			"processing control, data 0, v4563"}
	}
	req.from, req.Page = at, at.page
	return nil
}

func known(oid string) bool {
	for _, k := range supportedControls {
		if k == oid {
			return true
		}
	}
	return false
}

// dropsCookie reports whether the server has forgotten a cookie that a client sends.
func (s *Server) dropsCookie() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loseCookies > 0 {
		s.loseCookies--
		return true
	}
	return s.loseCookies < 0
}

// findPage returns the entries of the answer.
func (c *session) findPage(req *request, faults Faults) (page, error) {
	if faults.SearchResult != 0 {
		return page{}, ldapError{faults.SearchResult, faults.SearchDiagnostic}
	}
	if faults.Empty {
		return page{next: -1}, nil
	}
	limit := c.server.config.MaxPageSize
	if req.pageSize > 0 {
		limit = min(limit, req.pageSize)
	}
	return c.server.dir.search(req, limit, c.server.config.MaxValRange)
}

// sendPage sends a page and applies its faults.
func (c *session) sendPage(id int64, req *request, found page, faults Faults) error {
	c.out.Lock()
	defer c.out.Unlock()
	struck := faults.OnPage == 0 || faults.OnPage == req.Page
	out := bufio.NewWriterSize(c.conn, 32<<10)
	sent := 0
	for n, e := range found.entries {
		raw := message(id, e.op)
		if faults.Tamper != nil {
			raw = faults.Tamper(Raw{e.dn, raw})
		}
		if struck && faults.CutAfterBytes > 0 && sent+len(raw) >= faults.CutAfterBytes {
			out.Write(raw[:faults.CutAfterBytes-sent])
			out.Flush()
			c.abort()
			return errSessionEnd
		}
		out.Write(raw)
		sent += len(raw)
		for range faults.Repeat {
			if _, err := out.Write(raw); err != nil {
				return err
			}
		}
		if struck && n+1 == faults.StallAfterEntries {
			out.Flush()
			return c.discardInput()
		}
		if struck && n+1 == faults.CutAfterEntries {
			out.Flush()
			c.abort()
			return errSessionEnd
		}
	}
	for _, url := range append(found.references, faults.References...) {
		out.Write(message(id, tlv(tagSearchReference, octetString(url))))
	}
	c.server.count(func(s *Stats) { s.Entries += len(found.entries) })
	out.Write(c.searchDone(id, req, found, faults))
	return out.Flush()
}

// searchDone encodes the end of a page, and stores the cookie it returns.
func (c *session) searchDone(id int64, req *request, found page, faults Faults) []byte {
	if faults.Endless && req.pageSize > 0 && found.next < 0 && len(found.entries) > 0 {
		found.next = 0
	}
	more := found.next >= 0
	switch {
	case req.pageSize == 0 && more:
		return message(id, result(tagSearchDone, ldap.LDAPResultSizeLimitExceeded,
			"000020BA: LdapErr: DSID-0C090A5C, comment: size limit, data 0, v4563"))
	case req.pageSize == 0 || faults.DropPagingControl:
		return message(id, result(tagSearchDone, 0, ""))
	case !more:
		return message(id, result(tagSearchDone, 0, ""), pagingControl(""))
	}
	if len(c.cookies) == maxResultSets {
		delete(c.cookies, "cookie-"+strconv.Itoa(c.oldest()))
	}
	c.issued++
	cookie := "cookie-" + strconv.Itoa(c.issued)
	c.cookies[cookie] = cursor{found.next, req.Page + 1, req.searchKey()}
	return message(id, result(tagSearchDone, 0, ""), pagingControl(cookie))
}

// maxResultSets limits the paged searches in progress per connection: MaxResultSetsPerConn. The
// oldest one beyond the limit is lost.
const maxResultSets = 10

// oldest returns the number of the oldest unused cookie.
func (c *session) oldest() int {
	for n := 1; ; n++ {
		if _, there := c.cookies["cookie-"+strconv.Itoa(n)]; there {
			return n
		}
	}
}

// searchKey identifies a search: a cookie belongs to one.
func (r *request) searchKey() string { return fmt.Sprintf("%d %q %s", r.Scope, r.Base, r.Filter) }
