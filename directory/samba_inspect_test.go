package directory

import (
	"slices"
	"strings"
	"testing"

	"rcpt-milter/testenv"
)

// TestSambaInspect: what a real controller says of account, schema and forest.
func TestSambaInspect(t *testing.T) {
	dc := samba(t)
	c := dc.dial(t, nil)
	account := must[Account](t)(c.Account(t.Context()))
	if account.Name != "svc-mail" || !strings.HasSuffix(account.DN, testenv.BaseDN) || account.Locked ||
		!account.Expires.IsZero() {
		t.Errorf("Account() = %+v", account)
	}
	forest := must[Forest](t)(c.Forest(t.Context()))
	if len(forest.Domains) != 1 || forest.Domains[0].DNSName != "corp.example" ||
		forest.Domains[0].NamingContext != testenv.BaseDN ||
		forest.Domains[0].NetBIOS != "CORP" || !slices.Contains(forest.Accepted, AcceptedDomain{Name: "corp.example"}) {
		t.Errorf("Forest() = %+v", forest)
	}
	for name, want := range map[string]bool{"objectGUID": true, "uSNChanged": true, "proxyAddresses": true,
		"noSuchAttribute": false} {
		if got := must[bool](t)(c.Shown(t.Context(), name)); got != want {
			t.Errorf("Shown(%q) = %t, want %t", name, got, want)
		}
	}
	// Without Exchange proxyAddresses is not in the Global Catalog.
	for name, want := range map[string]SchemaAttribute{"proxyAddresses": {Exists: true}, "mail": {true, true},
		"noSuchAttribute": {}} {
		if got := must[SchemaAttribute](t)(c.Schema(t.Context(), name)); got != want {
			t.Errorf("Schema(%q) = %+v, want %+v", name, got, want)
		}
	}
	if got := must[string](t)(c.AddressUnder(t.Context(), "mail.onmicrosoft.com")); got != "" {
		t.Errorf("AddressUnder = %q", got)
	}
	if chain := c.Certificates(); len(chain) < 2 || chain[0].VerifyHostname("dc1.corp.example") != nil {
		t.Errorf("%d certificates", len(chain))
	}
}
