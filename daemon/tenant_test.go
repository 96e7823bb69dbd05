package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	"rcpt-milter/store"
)

// TestForeignLookup checks that a lookup outside of the scope reads nothing, so its duration cannot depend on
// what exists. The backend is empty, so any access would panic.
func TestForeignLookup(t *testing.T) {
	scope := control.Scope{"mine.test": true}
	for _, text := range []string{"ann@theirs.test", "postmaster@theirs.test", "postmaster", "", "@", "x@sub.mine.test",
		"<@mine.test:ann@theirs.test>", `"ann@mine.test"@theirs.test`, "ann@mine.test@theirs.test",
		"ann@mine.test\x00@x"} {
		t.Run(text, func(t *testing.T) {
			got, err := backend{}.TenantLookup(t.Context(), scope, text)
			if !errors.Is(err, control.ErrForeignDomain) || !cmp.Equal(got, control.TenantLookup{}) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// TestTenantReport checks that the report of a tenant has only its own rows and their sum, whatever other
// tenants have, also if addresses are stored as hashes.
func TestTenantReport(t *testing.T) {
	s := newTestStore(t)
	scope := control.Scope{"mine.test": true, ".mine.test": true}
	report := func(limit int) control.TenantReport {
		t.Helper()
		got, err := reporter{store: s}.tenantReport(t.Context(), scope,
			control.ReportQuery{Since: before(time.Hour), Limit: limit}, noon)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	hour := store.NewRefusals(time.Now())
	add := func(address, domain string, would bool, times int) {
		for range times {
			hour.Add(store.Refusal{Time: noon, Address: address, Domain: domain, Network: "192.0.2.0/24",
				Verdict: "unknown", WouldRefuse: would})
		}
		if err := s.PutRefusals(hour); err != nil {
			t.Fatal(err)
		}
	}
	add("bbo@mine.test", "mine.test", false, 3)
	add("hash:3f1c09a2b7de@mine.test", "mine.test", false, 2)
	add("x@sub.mine.test", "sub.mine.test", true, 1)
	alone := report(0)
	add("ann@theirs.test", "theirs.test", false, 50)
	add("mine.test@theirs.test", "theirs.test", true, 50)
	add("hash:3f1c09a2b7de@theirs.test", "theirs.test", false, 50)
	if d := cmp.Diff(alone, report(0)); d != "" {
		t.Errorf("rejections of others change the report (-alone +with others):\n%s", d)
	}
	var names []string
	for _, a := range alone.Addresses {
		names = append(names, a.Name)
	}
	want := []string{"bbo@mine.test", "3f1c09a2b7de@mine.test", "x@sub.mine.test"}
	if d := cmp.Diff(want, names); d != "" || alone.Refused != 5 || alone.WouldRefuse != 1 || len(alone.Domains) != 2 {
		t.Errorf("the report is %+v (-want +got):\n%s", alone, d)
	}
	if got := report(1); got.Refused != 5 || len(got.Domains) != 1 || len(got.Addresses) != 1 {
		t.Errorf("the report of one row is %+v", got)
	}
}
