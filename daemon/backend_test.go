package daemon

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rcpt-milter/control"
	"rcpt-milter/policy"
)

// TestLookupQuery checks that the policy knows a lookup from a client, whatever client the operator names.
func TestLookupQuery(t *testing.T) {
	for _, c := range []struct {
		name string
		in   control.LookupQuery
		want policy.Query
	}{
		{"address", control.LookupQuery{Address: "ann@x.test"}, policy.Query{Argument: "ann@x.test", From: "lookup",
			Lookup: true}},
		{"client", control.LookupQuery{Address: "ann@x.test", Client: "192.0.2.1"}, policy.Query{Argument: "ann@x.test",
			From: "lookup", Lookup: true, Client: netip.MustParseAddr("192.0.2.1")}},
		{"authenticated", control.LookupQuery{Address: "ann@x.test", Authenticated: true}, policy.Query{
			Argument: "ann@x.test", From: "lookup", Lookup: true, Authenticated: "lookup"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := lookupQuery(c.in)
			if d := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" || err != nil {
				t.Errorf("error %v (-want +got):\n%s", err, d)
			}
		})
	}
	t.Run("client without an address", func(t *testing.T) {
		if _, err := lookupQuery(control.LookupQuery{Address: "ann@x.test", Client: "mail"}); err == nil {
			t.Error("no error")
		}
	})
}
