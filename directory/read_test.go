package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/testenv/adsim"
)

func TestRoot(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d := adsim.NewDirectory(adsim.DirectoryConfig{Host: "DC7", Clock: func() time.Time { return now }})
	c, s := connect(t, d, adsim.ServerConfig{}, nil)
	root := must[Root](t)(c.Root(t.Context()))
	if root.HighestCommittedUSN != d.HighestUSN() || root.InvocationID != GUID(d.InvocationID()) ||
		root.DNSHostName != "dc7.corp.example" || root.DefaultNamingContext != base ||
		root.ConfigNamingContext != "CN=Configuration,"+base || root.GlobalCatalog ||
		!root.Now.Equal(now) || len(root.SupportedControls) == 0 || !root.DeletedVisible || root.Unsynchronized {
		t.Errorf("Root() = %+v", root)
	}
	d.WithholdDeleted(true)
	d.NewInvocationID()
	root = must[Root](t)(c.Root(t.Context()))
	if root.DeletedVisible || root.InvocationID != GUID(d.InvocationID()) {
		t.Errorf("second Root() = %+v", root)
	}
	for _, tc := range []struct {
		faults adsim.Faults
		want   bool
	}{
		{adsim.Faults{Unsynchronized: true}, true},
		{adsim.Faults{Unsynchronized: true, HideRootDSE: []string{"isSynchronized"}}, false},
	} {
		s.SetFaults(tc.faults)
		if root := must[Root](t)(c.Root(t.Context())); root.Unsynchronized != tc.want {
			t.Errorf("%+v: unsynchronized %t, want %t", tc.faults, root.Unsynchronized, tc.want)
		}
	}
	for _, missing := range rootAttributes[:4] {
		t.Run(missing, func(t *testing.T) {
			s.SetFaults(adsim.Faults{HideRootDSE: []string{missing}})
			_, err := c.Root(t.Context())
			wantError(t, "without "+missing, err, ErrProtocol, missing)
		})
	}
	s.SetFaults(adsim.Faults{})
	d.Hide("invocationId")
	_, err := c.Root(t.Context())
	wantError(t, "invocationId hidden", err, ErrProtocol, "NTDS Settings")
}

func TestFullReadInPages(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 25)
	add(t, d, adsim.Computer, "CN=PC1,CN=Computers,"+base, "pc1@corp.example")
	add(t, d, adsim.ManagedService, "CN=gmsa,CN=Users,"+base, "gmsa@corp.example")
	add(t, d, adsim.PrintQueue, "CN=printer,CN=Users,"+base)
	ok(t, d.Delete(add(t, d, adsim.User, "CN=gone,CN=Users,"+base, "gone@corp.example")))
	for _, tc := range []struct{ size, serverMax, pages int }{{7, 1000, 4}, {1000, 10, 3}, {1000, 1000, 1}} {
		t.Run(fmt.Sprintf("size %d of %d", tc.size, tc.serverMax), func(t *testing.T) {
			c, s := connect(t, d, adsim.ServerConfig{MaxPageSize: tc.serverMax},
				func(c *Config) { c.PageSize = tc.size })
			root := must[Root](t)(c.Root(t.Context()))
			before := s.Stats()
			all, err := readAll(t.Context(), c, 0)
			ok(t, err)
			if got, want := owners(all), truth(d); !slices.Equal(got, want) || len(got) != 25 {
				t.Errorf("page size %d: owners = %q, want %q", tc.size, got, want)
			}
			if len(all) != 25+3 { // Users, Computers, Microsoft Exchange System Objects
				t.Errorf("page size %d: %d objects: %s", tc.size, len(all), names(all))
			}
			if pages := s.Stats().Searches - before.Searches; pages != tc.pages {
				t.Errorf("page size %d: %d pages, want %d", tc.size, pages, tc.pages)
			}
			for _, o := range all {
				if o.USN > root.HighestCommittedUSN || o.Changed.IsZero() || o.Deleted {
					t.Errorf("object %+v", o)
				}
			}
		})
	}
}

func TestIncrementalReadFindsEveryKindOfChange(t *testing.T) {
	for _, bin := range []bool{false, true} {
		d := adsim.NewDirectory(adsim.DirectoryConfig{RecycleBin: bin})
		ou := add(t, d, adsim.OU, "OU=Sales,"+base)
		guids := people(t, d, 6)
		child := add(t, d, adsim.User, "CN=child,OU=Sales,"+base, "child@corp.example")
		c, _ := connect(t, d, adsim.ServerConfig{}, nil)
		since := must[Root](t)(c.Root(t.Context())).HighestCommittedUSN
		if all, err := readAll(t.Context(), c, since); err != nil || len(all) != 0 {
			t.Errorf("nothing changed: %d objects, %v", len(all), err)
		}
		ok(t, d.Modify(guids[0], adsim.Set("proxyAddresses"))) // lost its last address
		ok(t, d.Rename(guids[1], "renamed"))
		ok(t, d.Delete(guids[2]))
		ok(t, d.SetDisabled(guids[3], true))
		ok(t, d.Move(ou, "CN=Users,"+base)) // the child is not reported
		add(t, d, adsim.Contact, "CN=new,CN=Users,"+base, "new@corp.example")
		all, err := readAll(t.Context(), c, since)
		ok(t, err)
		if got, want := names(all), "Sales new renamed u0 u2 u3"; got != want {
			t.Errorf("recycle bin %v: read %q, want %q", bin, got, want)
		}
		deleted := all[GUID(guids[2])]
		if !deleted.Deleted || (len(deleted.Values) > 0) != bin {
			t.Errorf("recycle bin %v: deleted object %+v", bin, deleted)
		}
		if !all[GUID(guids[3])].Disabled || all[GUID(guids[1])].Disabled {
			t.Error("disabled flags are wrong")
		}
		if _, found := all[GUID(child)]; found {
			t.Error("the child of a moved OU was reported: the simulation is not like the original")
		}
		if o := all[GUID(ou)]; !o.HasClass("organizationalunit") {
			t.Errorf("OU: %+v", o)
		}
	}
}

func TestIncrementalReadSeesRecycledAndUndeleted(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{RecycleBin: true})
	guids := people(t, d, 2)
	ok(t, d.Delete(guids[0]))
	ok(t, d.Delete(guids[1]))
	c, _ := connect(t, d, adsim.ServerConfig{}, nil)
	since := must[Root](t)(c.Root(t.Context())).HighestCommittedUSN
	ok(t, d.Recycle(guids[0]))
	ok(t, d.Undelete(guids[1], ""))
	all, err := readAll(t.Context(), c, since)
	ok(t, err)
	if a, b := all[GUID(guids[0])], all[GUID(guids[1])]; len(all) != 2 || !a.Deleted || len(a.Values) != 0 ||
		b.Deleted || len(b.Values) != 1 {
		t.Errorf("read %+v", all)
	}
}

// TestReadDeleted: the deleted objects alone, as many pages as they need; none, and no
// error, where they may not be seen.
func TestReadDeleted(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	guids := people(t, d, 9)
	for _, guid := range guids[:7] {
		ok(t, d.Delete(guid))
	}
	c, _ := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize = 3 })
	read := func() (gone []GUID) {
		t.Helper()
		ok(t, c.ReadDeleted(t.Context(), func(page []Object) error {
			for _, o := range page {
				if !o.Deleted || len(o.Values) > 0 || o.Changed.IsZero() {
					t.Errorf("object = %+v", o)
				}
				if slices.Contains(guids, adsim.GUID(o.GUID)) {
					gone = append(gone, o.GUID)
				}
			}
			return nil
		}))
		return gone
	}
	if gone := read(); len(gone) != 7 {
		t.Errorf("deleted objects = %v, want 7", gone)
	}
	d.WithholdDeleted(true)
	must[Root](t)(c.Root(t.Context()))
	if gone := read(); len(gone) != 0 {
		t.Errorf("deleted objects that may not be seen = %v", gone)
	}
}

func TestObjectFields(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	guid := must[adsim.GUID](t)(d.Add(adsim.User, "CN=Board Room,CN=Users,"+base, adsim.Attrs{
		"proxyAddresses": {"SMTP:board@corp.example", "X500:/o=corp"}, "mail": {"Board@corp.example"},
		"extensionAttribute1": {"x"},
		"userAccountControl":  {"514"}, "msExchRequireAuthToSendTo": {"TRUE"},
		"msExchRecipientTypeDetails": {"549755813888"},
	}))
	c, _ := connect(t, d, adsim.ServerConfig{}, func(c *Config) {
		c.AddressAttributes = []string{"PROXYADDRESSES",
			"mail", "absentAttribute"}
	})
	all, err := readAll(t.Context(), c, 0)
	ok(t, err)
	o := all[GUID(guid)]
	want := []Value{{Attribute: "proxyaddresses", Raw: "SMTP:board@corp.example"},
		{Attribute: "proxyaddresses", Raw: "X500:/o=corp"}, {Attribute: "mail", Raw: "Board@corp.example"}}
	if !slices.Equal(o.Values, want) {
		t.Errorf("values = %+v, want %+v", o.Values, want)
	}
	if !o.Disabled || !o.InternalOnly || o.RecipientType != 549755813888 || o.ManagedService || o.Deleted ||
		o.DN != "CN=Board Room,CN=Users,"+base || o.USN != d.HighestUSN() || !o.HasClass("user") {
		t.Errorf("object = %+v", o)
	}
}

func TestLostCookieBeginsAgain(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 20)
	c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize = 5 })
	s.LoseCookies(maxRestarts)
	all, err := readAll(t.Context(), c, 0)
	ok(t, err)
	if got, want := owners(all), truth(d); !slices.Equal(got, want) {
		t.Errorf("owners = %q, want %q", got, want)
	}
	s.LoseCookies(-1)
	_, err = readAll(t.Context(), c, 0)
	wantError(t, "cookies always lost", err, ErrRefused, "paging cookie")
	s.LoseCookies(0)
	_, err = readAll(t.Context(), c, 0)
	ok(t, err) // the connection is still good
}

func TestAnswersThatMustNotBeTrusted(t *testing.T) {
	for _, tc := range []struct {
		name   string
		hide   string
		faults adsim.Faults
		kind   error
		words  string
	}{
		{"no paging control", "", adsim.Faults{DropPagingControl: true}, ErrProtocol, "paging control"},
		{"uSNChanged hidden", "uSNChanged", adsim.Faults{}, ErrProtocol, "came without uSNChanged"},
		{"objectGUID hidden", "objectGUID", adsim.Faults{}, ErrProtocol, "has no readable objectGUID"},
		{"referral", "", adsim.Faults{SearchResult: 10}, ErrRefused, "not followed"},
		{"time limit", "", adsim.Faults{SearchResult: 3}, ErrRefused, "time limit"},
		{"size limit", "", adsim.Faults{SearchResult: 4}, ErrRefused, "limit of entries"},
		{"unwilling on the first page", "", adsim.Faults{SearchResult: 53, SearchDiagnostic: "00000057: no"},
			ErrRefused, "unwilling"},
		{"unknown code", "", adsim.Faults{SearchResult: 80}, ErrRefused, "LDAP 80"},
		{"cut in mid-page", "", adsim.Faults{CutAfterEntries: 3}, ErrUnreachable, "connection was lost"},
		{"cut in mid-entry of page 2", "", adsim.Faults{CutAfterBytes: 300, OnPage: 2}, ErrUnreachable,
			"connection was lost"},
		{"garbage", "", adsim.Faults{Tamper: func(r adsim.Raw) []byte {
			return []byte{0x30, 0x03, 0x02, 0x05,
				0x00}
		}}, ErrProtocol, "a message that is not LDAP"},
		{"message too long", "", adsim.Faults{Tamper: func(r adsim.Raw) []byte {
			return []byte{0x30, 0x84, 0x7f,
				0xff, 0xff, 0xff}
		}}, ErrProtocol, "a message of 2147483653 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := adsim.NewDirectory(adsim.DirectoryConfig{})
			people(t, d, 10)
			c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize = 5 })
			must[Root](t)(c.Root(t.Context()))
			s.SetFaults(tc.faults)
			d.Hide(tc.hide)
			_, err := readAll(t.Context(), c, 0)
			wantError(t, tc.name, err, tc.kind, tc.words)
		})
	}
}

func TestReferencesAreIgnored(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 10)
	c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize = 5 })
	s.SetFaults(adsim.Faults{References: []string{s.URL() + "/" + base}})
	all, err := readAll(t.Context(), c, 0)
	if got, want := owners(all), truth(d); err != nil || !slices.Equal(got, want) {
		t.Errorf("owners = %q, %v, want %q", got, err, want)
	}
	if n := s.Stats().Connections; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestControlsAndFilter(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	c, s := connect(t, d, adsim.ServerConfig{}, nil)
	must[Root](t)(c.Root(t.Context()))
	classes := "(|"
	for _, class := range slices.Concat(RecipientClasses(), ContainerClasses()) {
		classes += "(objectClass=" + class + ")"
	}
	classes += ")(!(objectClass=computer)))"
	for _, tc := range []struct {
		since  uint64
		filter string
		oids   []string
	}{
		{0, "(&" + classes, []string{oidDomainScope}},
		{41, "(&(uSNChanged>=42)" + classes, []string{oidDomainScope, oidShowDeleted, oidShowRecycled}},
	} {
		t.Run(fmt.Sprintf("since %d", tc.since), func(t *testing.T) {
			var got adsim.Search
			s.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) { got = s }})
			_, err := readAll(t.Context(), c, tc.since)
			ok(t, err)
			if got.Filter != tc.filter || got.Base != base || got.Scope != 2 {
				t.Errorf("since %d: search %+v, want filter %s", tc.since, got, tc.filter)
			}
			if len(got.Controls) != len(tc.oids)+1 {
				t.Errorf("since %d: controls %v", tc.since, got.Controls)
			}
			for _, oid := range tc.oids {
				if !got.Controls[oid] {
					t.Errorf("since %d: control %s is not there or not critical", tc.since, oid)
				}
			}
		})
	}
}

func TestErrorOfTheCallbackEndsTheRead(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 10)
	c, _ := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize = 5 })
	full, calls := errors.New("disk full"), 0
	err := c.Read(t.Context(), 0, func([]Object) error { calls++; return full })
	if err != full || calls != 1 {
		t.Errorf("Read = %v after %d calls, want %v after 1", err, calls, full)
	}
}

func TestRangedValues(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{RecycleBin: true})
	var many []string
	for i := range 23 {
		many = append(many, fmt.Sprintf("alias%02d@corp.example", i))
	}
	people(t, d, 3)
	guid := add(t, d, adsim.Group, "CN=many,CN=Users,"+base, many...)
	c, _ := connect(t, d, adsim.ServerConfig{MaxValRange: 5}, nil)
	since := must[Root](t)(c.Root(t.Context())).HighestCommittedUSN
	all, err := readAll(t.Context(), c, 0)
	if got, want := owners(all), truth(d); err != nil || !slices.Equal(got, want) || len(got) != 26 {
		t.Errorf("owners = %q, %v, want %q", got, err, want)
	}
	if values := all[GUID(guid)].Values; len(values) != 23 || values[22].Raw != "smtp:alias22@corp.example" {
		t.Errorf("values = %+v", values)
	}
	ok(t, d.Delete(guid)) // keeps all values in the recycle bin; read by GUID with Show Deleted
	all, err = readAll(t.Context(), c, since)
	if o := all[GUID(guid)]; err != nil || !o.Deleted || len(o.Values) != 23 {
		t.Errorf("deleted: %d values, %v", len(o.Values), err)
	}
}

// onParts calls change before the n-th ranged search, counted over the whole test.
func onParts(change func(n int)) adsim.Faults {
	parts := 0
	return adsim.Faults{BeforePage: func(s adsim.Search) {
		if strings.HasPrefix(s.Base, "<GUID=") && len(s.Attributes) == 2 {
			parts++
			change(parts)
		}
	}}
}

func TestObjectChangesBetweenItsParts(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("alias%02d@corp.example", i))
	}
	guid := add(t, d, adsim.Group, "CN=many,CN=Users,"+base, many...)
	c, s := connect(t, d, adsim.ServerConfig{MaxValRange: 5}, nil)
	since := must[Root](t)(c.Root(t.Context())).HighestCommittedUSN

	// Without its first value, all others move down by one: reading on would lose one.
	s.SetFaults(onParts(func(n int) {
		if n == 2 {
			ok(t, d.Modify(guid, adsim.RemoveValues("proxyAddresses", "smtp:alias00@corp.example")))
		}
	}))
	all, err := readAll(t.Context(), c, 0)
	if got, want := owners(all), truth(d); err != nil || !slices.Equal(got, want) || len(got) != 11 {
		t.Errorf("changed: owners = %q, %v, want %q", got, err, want)
	}

	s.SetFaults(onParts(func(int) { ok(t, d.Touch(guid)) }))
	_, err = readAll(t.Context(), c, 0)
	wantError(t, "never quiet", err, ErrProtocol, "changes faster")

	s.SetFaults(onParts(func(n int) {
		if n == 1 {
			ok(t, d.Delete(guid))
		}
	}))
	all, err = readAll(t.Context(), c, 0)
	if _, found := all[GUID(guid)]; err != nil || found {
		t.Errorf("deleted in a full read: found %v, %v", found, err)
	}
	s.SetFaults(adsim.Faults{})
	if all, err = readAll(t.Context(), c, since); err != nil || !all[GUID(guid)].Deleted {
		t.Errorf("the tombstone: %+v, %v", all, err)
	}
}

func TestChangesDuringTheReadAreFoundAgain(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	guids := people(t, d, 20)
	c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize = 5 })
	since := must[Root](t)(c.Root(t.Context())).HighestCommittedUSN
	s.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Page == 3 {
			ok(t, d.Modify(guids[0], adsim.Set("proxyAddresses", "smtp:changed@corp.example")))
			ok(t, d.Delete(guids[1]))
			ok(t, d.Delete(guids[19]))
		}
	}})
	all, err := readAll(t.Context(), c, 0)
	ok(t, err)
	s.SetFaults(adsim.Faults{})
	changed, err := readAll(t.Context(), c, since)
	ok(t, err)
	if len(changed) != 3 {
		t.Errorf("%d objects after the read, want 3", len(changed))
	}
	for guid, o := range changed {
		all[guid] = o
	}
	if got, want := owners(all), truth(d); !slices.Equal(got, want) {
		t.Errorf("owners = %q, want %q", got, want)
	}
}

func TestFind(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 5)
	must[adsim.GUID](t)(d.Add(adsim.Contact, "CN=mail only,CN=Users,"+base, adsim.Attrs{"mail": {"Only@Corp.example"}}))
	must[adsim.GUID](t)(d.Add(adsim.Contact, "CN=odd,CN=Users,"+base,
		adsim.Attrs{"mail": {"o*d(d)@corp.example"}, "proxyAddresses": {"smtp:a b@corp.example"}}))
	add(t, d, adsim.User, "CN=idn,CN=Users,"+base, "anna@bücher.example")
	add(t, d, adsim.Computer, "CN=PC1,CN=Computers,"+base, "pc1@corp.example")
	ok(t, d.Delete(add(t, d, adsim.User, "CN=gone,CN=Users,"+base, "gone@corp.example")))
	c, _ := connect(t, d, adsim.ServerConfig{}, nil)
	for _, tc := range []struct{ address, want string }{
		{"U3@corp.example", "u3"},
		{"only@corp.example", "mail only"},
		{`"o*d(d)"@corp.example`, "odd"},
		{`"a b"@corp.example`, "odd"},
		{"anna@xn--bcher-kva.example", "idn"},
		{"o*@corp.example", ""},
		{"gone@corp.example", ""},
		{"pc1@corp.example", ""},
		{"nobody@corp.example", ""},
	} {
		t.Run(tc.address, func(t *testing.T) {
			found, err := c.Find(t.Context(), must[address.Address](t)(address.Parse(tc.address)))
			var got []string
			for _, o := range found {
				rdn, _, _ := strings.Cut(o.DN, ",")
				got = append(got, rdn[3:])
			}
			if err != nil || strings.Join(got, " ") != tc.want {
				t.Errorf("Find(%s) = %q, %v, want %q", tc.address, got, err, tc.want)
			}
		})
	}
}

// An answer that would be that of everybody is none.
func TestFindOfTooMany(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	for i := range maxCandidates + 1 {
		add(t, d, adsim.User, fmt.Sprintf("CN=u%d,CN=Users,%s", i, base), "all@corp.example")
	}
	c, _ := connect(t, d, adsim.ServerConfig{}, nil)
	found, err := c.Find(t.Context(), must[address.Address](t)(address.Parse("all@corp.example")))
	wantError(t, "Find", err, ErrProtocol, "more than 1000 objects")
	if found != nil {
		t.Errorf("%d objects", len(found))
	}
}

func TestCancelInMidPage(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 10)
	c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize = 5 })
	must[Root](t)(c.Root(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	s.SetFaults(adsim.Faults{StallAfterEntries: 2, OnPage: 2, BeforePage: func(s adsim.Search) {
		if s.Page == 2 {
			cancel()
		}
	}})
	_, err := readAll(ctx, c, 0) // Config.Timeout is 130 s: only the context can end this
	wantError(t, "cancelled", err, context.Canceled, "canceled")
	_, err = readAll(t.Context(), c, 0)
	wantError(t, "after it", err, ErrUnreachable, "")
}
