package adsim

import (
	"context"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// notify asks for notification.
func notify(t *testing.T, c *ldap.Conn, req *ldap.SearchRequest) ldap.Response {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return c.SearchAsync(ctx, req, 100)
}

// registered asks for notification and waits until that is in force.
func registered(t *testing.T, s *Server, c *ldap.Conn, req *ldap.SearchRequest) ldap.Response {
	t.Helper()
	before := s.Stats().Notifications
	events := notify(t, c, req)
	for s.Stats().Notifications == before {
		_, err := c.Search(query(ldap.ScopeBaseObject, "", "(objectClass=*)", []string{"highestCommittedUSN"}))
		ok(t, err)
	}
	return events
}

func TestNotification(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	s := StartTest(t, d, ServerConfig{})
	c := dial(t, s)
	events := registered(t, s, c, query(ldap.ScopeWholeSubtree, base, "(objectClass=*)", []string{"objectGUID"},
		critical(oidNotification), critical(oidShowDeleted)))
	next := func(what, want string) {
		t.Helper()
		if !events.Next() || events.Entry() == nil {
			t.Fatalf("%s: no entry, %v", what, events.Err())
		}
		if got := events.Entry().DN; !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", what, got, want)
		}
	}
	people := "OU=People," + base
	add(t, d, OU, people)
	next("added", people)
	guid := must[GUID](t)(d.Add(User, "CN=Anna,"+people, nil))
	next("added", "CN=Anna")
	ok(t, d.Touch(guid))
	next("touched", "CN=Anna")
	ok(t, d.Rename(guid, "Ann"))
	next("renamed", "CN=Ann,")
	ok(t, d.Delete(guid))
	next("deleted", "DEL:")
	if got := s.Stats().Notifications; got != 1 {
		t.Errorf("%d notifications registered, want 1", got)
	}
	c.Close()
	if events.Next() {
		t.Errorf("after the end: %v", events.Entry())
	}
}

func TestNotificationLimits(t *testing.T) {
	s := StartTest(t, NewDirectory(DirectoryConfig{}), ServerConfig{})
	c := dial(t, s)
	refused := func(what string, code uint16, req *ldap.SearchRequest) {
		t.Helper()
		if events := notify(t, c, req); events.Next() || !ldap.IsErrorWithCode(events.Err(), code) {
			t.Errorf("%s: %v, want result %d", what, events.Err(), code)
		}
	}
	whole := func(filter string) *ldap.SearchRequest {
		return query(ldap.ScopeWholeSubtree, base, filter, nil, critical(oidNotification))
	}
	refused("another filter", ldap.LDAPResultUnwillingToPerform, whole("(objectClass=user)"))
	refused("a part of the tree", ldap.LDAPResultUnwillingToPerform,
		query(ldap.ScopeWholeSubtree, "CN=Users,"+base, "(objectClass=*)", nil, critical(oidNotification)))
	for range maxNotifications {
		registered(t, s, c, whole("(objectClass=*)"))
	}
	refused("one more", ldap.LDAPResultAdminLimitExceeded, whole("(objectClass=*)"))
	s.SetFaults(Faults{NotifyResult: ldap.LDAPResultBusy})
	refused("busy", ldap.LDAPResultBusy, whole("(objectClass=*)"))
}
