package directory

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"rcpt-milter/address"
	"rcpt-milter/testenv"
)

var shared testenv.Shared

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// controller is a real domain controller, seen from both sides.
type controller struct {
	harness  *testenv.Harness
	config   Config // LDAPS
	startTLS string
	admin    *testenv.Domain
}

// samba gives the harness's domain controller.
func samba(t *testing.T) controller {
	t.Helper()
	h := shared.Require(t)
	ldaps := must[string](t)(h.Address(t.Context(), testenv.DC, 636))
	plain := must[string](t)(h.Address(t.Context(), testenv.DC, 389))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	ok(t, os.WriteFile(ca, []byte(must[string](t)(h.ReadFile(t.Context(), testenv.DC, "/ca/ca.pem"))), 0o600))
	admin := must[*testenv.Domain](t)(h.Administrator(t.Context()))
	t.Cleanup(func() { admin.Close() })
	return controller{
		harness: h,
		config: Config{
			URL: "ldaps://" + ldaps, ServerName: "dc1.corp.example", CAFile: ca, PageSize: 50,
			BindDN: testenv.MailAccount, Password: secret(testenv.MailPassword),
		},
		startTLS: "ldap://" + plain,
		admin:    admin,
	}
}

func secret(password string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(password), nil }
}

func (c controller) dial(t *testing.T, change func(*Config)) *Conn {
	t.Helper()
	config := c.config
	if change != nil {
		change(&config)
	}
	conn := must[*Conn](t)(Dial(t.Context(), config))
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestSambaRootAndFullRead(t *testing.T) {
	dc := samba(t)
	want, _, err := dc.admin.Recipients()
	ok(t, err)
	for _, url := range []string{dc.config.URL, dc.startTLS} {
		c := dc.dial(t, func(c *Config) { c.URL = url })
		root := must[Root](t)(c.Root(t.Context()))
		if root.DefaultNamingContext != testenv.BaseDN || root.DNSHostName != "dc1.corp.example" ||
			root.InvocationID.IsZero() || !root.DeletedVisible || root.Now.IsZero() || root.GlobalCatalog {
			t.Errorf("%s: Root() = %+v", url, root)
		}
		all, err := readAll(t.Context(), c, 0)
		ok(t, err)
		if got := sambaAddresses(all); !slices.Equal(got, want) {
			t.Errorf("%s: %d addresses, want %d:\n%q\n%q", url, len(got), len(want), got, want)
		}
		for _, o := range all {
			if o.USN > root.HighestCommittedUSN || o.Changed.IsZero() || o.ManagedService || o.HasClass("computer") {
				t.Errorf("%s: object %+v", url, o)
			}
		}
	}
	plain := dc.dial(t, func(c *Config) { c.BindDN, c.Password = testenv.PlainAccount, secret(testenv.PlainPassword) })
	if root := must[Root](t)(plain.Root(t.Context())); root.DeletedVisible {
		t.Error("an account without the right counts as one that sees deleted objects")
	}
}

// sambaAddresses lists the SMTP addresses of live objects as testenv reckons them.
func sambaAddresses(objects map[GUID]Object) []string {
	var out []string
	for _, o := range objects {
		for _, v := range o.Values {
			kind, rest, typed := strings.Cut(v.Raw, ":")
			switch {
			case v.Attribute == "mail":
				out = append(out, strings.ToLower(norm.NFC.String(v.Raw)))
			case typed && strings.EqualFold(kind, "smtp"):
				out = append(out, strings.ToLower(norm.NFC.String(rest)))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestSambaIncrementalRead(t *testing.T) {
	dc := samba(t)
	person := func(name string) string {
		dn := must[string](t)(dc.admin.AddUser(testenv.Person{Name: name, Mail: name + "@corp.example",
			Proxies: []string{"SMTP:" + name + "@corp.example"}}))
		t.Cleanup(func() { dc.admin.Delete(dn) })
		return dn
	}
	aliased, moved, gone, bare := person("dir-aliased"), person("dir-moved"), person("dir-gone"), person("dir-bare")
	c := dc.dial(t, nil)
	since := must[Root](t)(c.Root(t.Context())).HighestCommittedUSN
	before, err := readAll(t.Context(), c, 0)
	ok(t, err)

	ok(t, dc.admin.AddProxy(aliased, "smtp:dir-second@corp.example"))
	target := must[string](t)(dc.admin.Move(moved, "dir-renamed", testenv.LeaversOU))
	t.Cleanup(func() { dc.admin.Delete(target) })
	ok(t, dc.admin.Delete(gone))
	ok(t, dc.admin.Set(bare, "mail"))
	ok(t, dc.admin.Set(bare, "proxyAddresses"))
	person("dir-new")
	var deleted []string
	ok(t, c.ReadDeleted(t.Context(), func(page []Object) error {
		for _, o := range page {
			if !o.Deleted || o.Changed.IsZero() {
				t.Errorf("deleted object %+v", o)
			}
			deleted = append(deleted, o.DN)
		}
		return nil
	}))
	if !slices.ContainsFunc(deleted, func(dn string) bool { return strings.HasPrefix(dn, `CN=dir-gone\0ADEL:`) }) {
		t.Errorf("the deleted objects lack dir-gone: %q", deleted)
	}

	if root := must[Root](t)(c.Root(t.Context())); root.HighestCommittedUSN <= since {
		t.Errorf("highestCommittedUSN %d did not move past %d", root.HighestCommittedUSN, since)
	}
	changed, err := readAll(t.Context(), c, since)
	ok(t, err)
	found := map[string]Object{}
	for _, o := range changed {
		rdn, _, _ := strings.Cut(o.DN, ",")
		rdn, _, _ = strings.Cut(rdn, `\`)
		found[rdn] = o
	}
	if o := found["CN=dir-aliased"]; len(o.Values) != 3 || o.Deleted || before[o.GUID].DN != aliased {
		t.Errorf("alias added: %+v", o)
	}
	if o := found["CN=dir-renamed"]; o.DN != target || before[o.GUID].DN != moved {
		t.Errorf("renamed and moved: %+v, was %+v", o, before[o.GUID])
	}
	if o := found["CN=dir-gone"]; !o.Deleted || before[o.GUID].DN != gone {
		t.Errorf("deleted: %+v", o)
	}
	if o, there := found["CN=dir-bare"]; !there || len(o.Values) != 0 || o.Deleted {
		t.Errorf("lost its addresses: %+v", o)
	}
	if o, there := found["CN=dir-new"]; !there || before[o.GUID].DN != "" {
		t.Errorf("new: %+v", o)
	}
	hits, err := c.Find(t.Context(), must[address.Address](t)(address.Parse("DIR-second@corp.example")))
	if err != nil || len(hits) != 1 || hits[0].DN != aliased {
		t.Errorf("Find = %+v, %v", hits, err)
	}
}

func TestSambaRefusals(t *testing.T) {
	dc := samba(t)
	for name, tc := range map[string]struct {
		change func(*Config)
		kind   error
		words  string
	}{
		"wrong password":       {func(c *Config) { c.Password = secret("wrong") }, ErrCredentials, "LDAP 49"},
		"wrong name":           {func(c *Config) { c.BindDN = "nobody@corp.example" }, ErrCredentials, "LDAP 49"},
		"unknown CA":           {func(c *Config) { c.CAFile = "" }, ErrTLS, "tls.ca_file"},
		"StartTLS, unknown CA": {func(c *Config) { c.CAFile, c.URL = "", dc.startTLS }, ErrTLS, "tls.ca_file"},
		"another name":         {func(c *Config) { c.ServerName = "dc2.corp.example" }, ErrTLS, "tls.server_name"},
	} {
		config := dc.config
		tc.change(&config)
		_, err := Dial(t.Context(), config)
		wantError(t, name, err, tc.kind, tc.words)
	}
}
