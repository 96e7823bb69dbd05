package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rcpt-milter/address"
)

// smallest is a valid file with nothing in it that has a default.
const smallest = `domains:
  example.com: enforce
directories:
  - name: corp
    urls: [ldaps://dc1.corp.example]
    bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}
`

func smallestConfig() *Config {
	c := defaults()
	c.Domains["example.com"] = Enforce
	d := defaultDirectory()
	d.Name = "corp"
	d.URLs = []string{"ldaps://dc1.corp.example:636"}
	d.Bind = Bind{DN: "svc-mail@corp.example", PasswordFile: "/etc/rcpt-milter/password"}
	c.Directories = []Directory{d}
	return c
}

func diff(want, got *Config) string {
	return cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{}),
		cmpopts.EquateComparable(netip.Prefix{}, address.Address{}))
}

func TestDefaults(t *testing.T) {
	got, err := Parse("config.yaml", []byte(smallest))
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(smallestConfig(), got); d != "" {
		t.Errorf("the smallest file differs from the defaults (-want +got):\n%s", d)
	}
}

// TestEveryDefaultWritten reads a file that writes out every key there is with its
// default: it is the same as leaving them out.
func TestEveryDefaultWritten(t *testing.T) {
	got, err := Load(filepath.Join("testdata", "defaults.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(smallestConfig(), got); d != "" {
		t.Errorf("every default written out (-want +got):\n%s", d)
	}
}

// TestEveryKey reads a file in which no key that this version acts on has its default.
func TestEveryKey(t *testing.T) {
	got, err := Load(filepath.Join("testdata", "changed.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var canaries Canaries
	for text, list := range map[string]*[]address.Address{"ceo@example.com": &canaries.Accept,
		"no-such-user@example.com": &canaries.Refuse} {
		a, err := address.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		*list = append(*list, a)
	}
	second, err := address.Parse("info@xn--bcher-kva.example")
	if err != nil {
		t.Fatal(err)
	}
	canaries.Accept = append(canaries.Accept, second)
	var refused []address.Address
	for _, text := range []string{"left@example.com", "left@xn--bcher-kva.example"} {
		a, err := address.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		refused = append(refused, a)
	}
	want := &Config{
		Listen: []Endpoint{
			{"unix", "/run/one.sock"}, {"tcp", "192.0.2.1:8894"}, {"tcp", "[::1]:8894"},
		},
		ListenAllow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::1/128")},
		Socket:      Socket{Group: "mail", Mode: 0o600},
		Control:     Endpoint{"unix", "/run/control.sock"},
		Metrics:     Endpoint{},
		Page: Page{Listen: Endpoint{"tcp", "0.0.0.0:9418"}, Serve: Always, Tokens: "/etc/rcpt-milter/tokens",
			Hosts: []string{"relay.example.com"}},
		Store: Store{Dir: "/srv/index", MinFree: 1_000_000_000, KeyFile: "/etc/rcpt-milter/key",
			Rebuild: RebuildNever},
		Domains: map[string]Mode{"xn--bcher-kva.example": Pass, ".example.org": Report, "example.com": Enforce,
			"10.example": Report},
		Accept:         []string{"@catchall.example.org", "extra@example.com", `"odd one"@example.com`},
		AcceptFiles:    []string{"/etc/postfix/relay_recipients", "/srv/lists"},
		AcceptPatterns: []string{`srs[01]=.*@example\.com`, `(?i)[A-Z]+-team@example\.com`},
		Refuse:         refused,
		DomainAliases: map[string]string{"alias.example.org": "example.com",
			"xn--bcher-kva.example": "alias.example.org"},
		Inside: Inside{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("64:ff9b::c000:201/128")}},
		RecipientDelimiter: "+-", StripPrefixes: []string{"prvs=", "btv1=="},
		NAT64: []netip.Prefix{netip.MustParsePrefix("64:ff9b:1::/48"),
			netip.MustParsePrefix("2001:db8:64::/96")},
		Exempt: Exempt{
			Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"),
				netip.MustParsePrefix("2001:db8::2/128")},
			Authenticated: true,
		},
		AlwaysAccept:    []string{"noc", "postmaster"},
		RemovalGrace:    0,
		LateAfter:       90 * time.Second,
		StaleAfter:      36 * time.Hour,
		WhenStale:       Refuse,
		WhenNotReady:    Accept,
		Canaries:        canaries,
		ListenSocketmap: []Endpoint{{"unix", "/run/rcpt-milter/map.sock"}, {"fd", "map"}},
		Export: Export{File: "/var/lib/rcpt-milter/list", Format: "text",
			Command: []string{"/usr/local/bin/copy", "two words"},
			Every:   time.Hour, Timeout: 10 * time.Second},
		Confirm: Confirm{Enabled: true, Timeout: 2 * time.Second, PerSecond: 0.5},
		Harvest: Harvest{Mode: Enforce, Unknown: 30, Ratio: 0.95, Window: 2 * time.Hour, Penalty: 10 * time.Minute,
			IPv4: 32, IPv6: 48, IPv6Site: 40, Tempfail: true, All: true},
		Limits:  Limits{Connections: 10, Idle: 90 * time.Minute},
		Journal: Journal{Keep: 7*24*time.Hour + 12*time.Hour},
		Log:     Log{Format: "json", Level: "debug", Syslog: "local3", HashAddresses: true},
		Directories: []Directory{{
			Name:                 "corp",
			URLs:                 []string{"ldaps://dc1.corp.example:3269", "ldap://[2001:db8::1]:389"},
			Domains:              []string{"example.com", ".example.org"},
			Bind:                 Bind{DN: "CN=svc,DC=corp,DC=example", PasswordFile: "/run/secrets/password"},
			TLS:                  TLS{CAFile: "/etc/ssl/corp.pem", ServerName: "corp.example"},
			Bases:                []string{"OU=Staff,DC=corp,DC=example", `OU=R\,D,DC=corp,DC=example`},
			Poll:                 500 * time.Millisecond,
			Full:                 time.Hour,
			Notify:               true,
			ReplicationLag:       0,
			AddressAttributes:    []string{"proxyAddresses"},
			RefuseInternalOnly:   true,
			OmitSystemMailboxes:  true,
			OmitDisabledAccounts: true,
			RemovalGuard:         Guard{Percent: 2.5, Count: 0, Max: 0, Share: 12.5, Window: 2 * time.Hour},
		}, func() Directory {
			d := defaultDirectory()
			d.Name, d.URLs = "lab", []string{"ldaps://lab.example:636"}
			d.Bind = Bind{DN: `LAB\svc`, PasswordFile: "/run/secrets/lab"}
			return d
		}()},
	}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestKeytabInPlaceOfPassword(t *testing.T) {
	got, err := Parse("config.yaml", []byte(strings.Replace(smallest,
		"dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password", "keytab: /etc/k, principal: "+
			"host/edge@CORP.EXAMPLE", 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := smallestConfig()
	want.Directories[0].Bind = Bind{Keytab: "/etc/k", Principal: "host/edge@CORP.EXAMPLE"}
	if d := diff(want, got); d != "" {
		t.Errorf("keytab in place of password (-want +got):\n%s", d)
	}
	if name := got.Directories[0].Bind.Name(); name != "host/edge@CORP.EXAMPLE" {
		t.Errorf("Name() = %q", name)
	}
}

func TestDiscoverInPlaceOfURLs(t *testing.T) {
	got, err := Parse("config.yaml", []byte(strings.Replace(smallest, "urls: [ldaps://dc1.corp.example]",
		"discover: Corp.Example.\n    site: Edge-1", 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := smallestConfig()
	want.Directories[0].URLs, want.Directories[0].Discover, want.Directories[0].Site = nil, "corp.example", "Edge-1"
	if d := diff(want, got); d != "" {
		t.Errorf("discover in place of urls (-want +got):\n%s", d)
	}
}

func TestEndpointString(t *testing.T) {
	for _, text := range []string{"unix:/run/x.sock", "inet:127.0.0.1:25", "inet:[::1]:25", "inet:localhost:25"} {
		e, err := parseListener(text)
		if err != nil || e.String() != text || !e.Loopback() {
			t.Errorf("parseListener(%q) = %q, %v, loopback %t", text, e, err, e.Loopback())
		}
	}
	if (Endpoint{}).String() != "" || !(Endpoint{}).IsZero() {
		t.Error("the zero endpoint is something")
	}
}

func TestShort(t *testing.T) {
	for _, c := range []struct {
		in   time.Duration
		want string
	}{
		{4 * time.Hour, "4h"}, {15 * time.Minute, "15m"}, {90 * time.Minute, "1h30m"},
		{5 * time.Second, "5s"}, {300 * time.Millisecond, "300ms"}, {0, "0s"},
		{time.Hour + 5*time.Second, "1h0m5s"}, {10 * time.Minute, "10m"}, {20 * time.Hour, "20h"},
	} {
		if got := formatDuration(c.in); got != c.want {
			t.Errorf("formatDuration(%v) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		in   string
		want uint64
		ok   bool
	}{
		{"256MiB", 256 << 20, true},
		{"256 MiB", 256 << 20, true},
		{"1GB", 1e9, true},
		{"10B", 10, true},
		{"0B", 0, true},
		{"16777215TiB", 16777215 << 40, true},
		{"16777216TiB", 0, false},
		{"256", 0, false},
		{"MiB", 0, false},
		{"-1MiB", 0, false},
		{"1.5GiB", 0, false},
		{"256M", 0, false},
		{"256  MiB", 0, false},
		{"", 0, false},
	} {
		if got, ok := parseSize(c.in); got != c.want || ok != c.ok {
			t.Errorf("parseSize(%q) = %d, %t, want %d, %t", c.in, got, ok, c.want, c.ok)
		}
	}
}

func TestOurs(t *testing.T) {
	c := &Config{Domains: map[string]Mode{"example.com": Enforce, ".example.org": Report, "off.example": Pass}}
	for domain, want := range map[string]bool{
		"example.com": true, "a.example.com": false, "ample.com": false, "com": false,
		"example.org": false, "a.example.org": true, "b.a.example.org": true, "aexample.org": false,
		"off.example": true, "": false,
	} {
		if got := c.HasEntry(domain); got != want {
			t.Errorf("ours(%q) = %t, want %t", domain, got, want)
		}
	}
}

func TestMayOwn(t *testing.T) {
	for _, c := range []struct {
		own    []string
		domain string
		want   bool
	}{
		{nil, "example.com", true},
		{[]string{"example.com"}, "example.com", true},
		{[]string{"example.com"}, "sub.example.com", false},
		{[]string{".example.com"}, "sub.example.com", true},
		{[]string{".example.com"}, "a.sub.example.com", true},
		{[]string{".example.com"}, "example.com", false},
		{[]string{".example.com"}, "notexample.com", false},
		{[]string{"sub.example.com"}, ".example.com", true},
		{[]string{".example.com"}, ".sub.example.com", true},
		{[]string{"other.example"}, ".example.com", false},
	} {
		if got := (&Directory{Domains: c.own}).MayOwn(c.domain); got != c.want {
			t.Errorf("a directory with domains %q: MayOwn(%q) = %t, want %t", c.own, c.domain, got, c.want)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ path, want string }{
		{filepath.Join(dir, "none.yaml"), "no such file or directory"},
		{dir, "is a directory"},
	} {
		_, err := Load(c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("Load(%q): %v, want %q", c.path, err, c.want)
		}
	}
}

func TestLoadErrorsAreTyped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte("lisen: x\n"+smallest), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	var e *Error
	if !errors.As(err, &e) || e.File != path || e.Line != 1 || e.Column != 1 {
		t.Errorf("Load: %#v", err)
	}
}

// TestColonsInLists: a colon without a space after it is part of a text, in every style of
// list.
func TestColonsInLists(t *testing.T) {
	for _, networks := range []string{
		"exempt: {networks: [2001:db8::/32, 192.0.2.0/24]}\n",
		"exempt: {networks: [\n  2001:db8::/32, 192.0.2.0/24]}\n",
		"exempt:\n  networks: [2001:db8::/32, 192.0.2.0/24]\n",
		"exempt:\n  networks:\n    - 2001:db8::/32\n    - 192.0.2.0/24\n",
	} {
		c, err := Parse("test", []byte(smallest+networks))
		if err != nil {
			t.Errorf("%s%v", networks, err)
			continue
		}
		if got := c.Exempt.Networks; len(got) != 2 || got[0] != netip.MustParsePrefix("2001:db8::/32") {
			t.Errorf("%s: networks %v", networks, got)
		}
	}
	flow := "{name: corp, urls: [ldaps://dc1.corp.example:636, ldaps://dc2.corp.example], bind: {dn: svc, " +
		"password_file: /p}}"
	c, err := Parse("test", []byte("domains: {example.com: enforce}\ndirectories: ["+flow+"]\n"))
	if err != nil || len(c.Directories[0].URLs) != 2 {
		t.Errorf("%s: %+v, %v", flow, c, err)
	}
	for _, bad := range []string{"exempt: {networks: [2001: db8]}\n", "exempt: {networks: ['2001':db8]}\n"} {
		if _, err := Parse("test", []byte(smallest+bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestHas tells a key that is empty from one that is not there.
func TestHas(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     bool
	}{
		{"empty", "recipient_delimiter: \"\"\n" + smallest, true},
		{"quoted, with blanks", "\"recipient_delimiter\" : ''\n" + smallest, true},
		{"last line", smallest + "\nrecipient_delimiter: +\n", true},
		{"absent", smallest, false},
		{"a comment", "#recipient_delimiter: \"\"\n" + smallest + " # recipient_delimiter: \"\"\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("config.yaml", []byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if got.Has("recipient_delimiter") != c.want {
				t.Errorf("Has = %t, want %t", !c.want, c.want)
			}
		})
	}
}
