package mirror

import (
	"slices"
	"strings"
	"testing"

	"rcpt-milter/directory"
)

func values(texts ...string) []directory.Value {
	var out []directory.Value
	for _, text := range texts {
		attribute := "proxyaddresses"
		if rest, mail := strings.CutPrefix(text, "mail="); mail {
			attribute, text = "mail", rest
		}
		out = append(out, directory.Value{Attribute: attribute, Raw: text})
	}
	return out
}

func TestClassify(t *testing.T) {
	user := []string{"top", "person", "organizationalperson", "user"}
	in := func(change func(*directory.Object), texts ...string) directory.Object {
		o := directory.Object{GUID: directory.GUID{1}, DN: "CN=x,OU=Sales,DC=corp,DC=example", Classes: user,
			Values: values(texts...)}
		if change != nil {
			change(&o)
		}
		return o
	}
	class := func(names ...string) func(*directory.Object) {
		return func(o *directory.Object) { o.Classes = names }
	}
	for _, c := range []struct {
		name     string
		object   directory.Object
		rules    Rules
		want     string // addresses; a leading "!" marks an internal-only one
		unparsed int
	}{
		{name: "all SMTP values, and mail",
			object: in(nil, "SMTP:A@X.test", "smtp:b@x.test", "Smtp:c@x.test", "mail=d@x.test"),
			want:   "a@x.test b@x.test c@x.test d@x.test"},
		{name: "other types", object: in(nil, "X500:/o=x/cn=a@x.test", "sip:a@x.test", "EUM:1@x.test", "x400:c=US",
			"NOTES:a@x", "FAX:+1", "SMTPX:a@x.test"), want: ""},
		{name: "a value without a type", object: in(nil, "a@x.test", ":a@x.test", "SMTP;a@x.test", ""), want: "",
			unparsed: 3},
		{name: "unreadable values", object: in(nil, "smtp:", "smtp:a", "smtp:a b@", "smtp:ok@x.test"),
			want: "ok@x.test", unparsed: 3},
		{name: "mail with a type", object: in(nil, "mail=smtp:a@x.test", "mail=sip:b@x.test"), want: "a@x.test"},
		{name: "mail switched off", object: in(nil, "smtp:a@x.test", "mail=b@x.test"),
			rules: Rules{Attributes: []string{"proxyAddresses"}}, want: "a@x.test"},
		{name: "mail only", object: in(nil, "smtp:a@x.test", "mail=b@x.test"),
			rules: Rules{Attributes: []string{"Mail"}}, want: "b@x.test"},
		{name: "nothing", object: in(nil), want: ""},
		{name: "inetOrgPerson", object: in(class("top", "person", "organizationalperson", "user", "inetorgperson"),
			"smtp:a@x.test"), want: "a@x.test"},
		{name: "group", object: in(class("top", "group"), "smtp:a@x.test"), want: "a@x.test"},
		{name: "contact", object: in(class("top", "person", "organizationalperson", "contact"), "smtp:a@x.test"),
			want: "a@x.test"},
		{name: "public folder", object: in(class("top", "publicfolder"), "smtp:a@x.test"), want: "a@x.test"},
		{name: "dynamic list", object: in(class("top", "msexchbaseclass", "msexchdynamicdistributionlist"),
			"smtp:a@x.test"), want: "a@x.test"},
		{name: "computer or managed service account",
			object: in(func(o *directory.Object) { o.ManagedService = true }, "smtp:a@x.test")},
		{name: "organizational unit", object: in(class("top", "organizationalunit"), "smtp:a@x.test")},
		{name: "printer", object: in(class("top", "leaf", "connectionpoint", "printqueue"), "smtp:a@x.test")},
		{name: "deleted, addresses kept by the recycle bin",
			object: in(func(o *directory.Object) { o.Deleted = true }, "smtp:a@x.test")},
		{name: "in a base", object: in(nil, "smtp:a@x.test"),
			rules: Rules{Bases: []string{"OU=Other,DC=corp,DC=example", "ou=sales, dc=corp, dc=example"}},
			want:  "a@x.test"},
		{name: "outside the bases", object: in(nil, "smtp:a@x.test"),
			rules: Rules{Bases: []string{"OU=ales,DC=corp,DC=example"}}},
		{name: "excluded", object: in(nil, "smtp:a@x.test"),
			rules: Rules{Exclude: []string{"OU=Other,DC=corp,DC=example", "ou=SALES, dc=corp,dc=example"}}},
		{name: "excluded within the bases", object: in(nil, "smtp:a@x.test"),
			rules: Rules{Bases: []string{"DC=corp,DC=example"}, Exclude: []string{"OU=Sales,DC=corp,DC=example"}}},
		{name: "beside what is excluded", object: in(nil, "smtp:a@x.test"),
			rules: Rules{Exclude: []string{"OU=ales,DC=corp,DC=example", "OU=x,OU=Sales,DC=corp,DC=example"}},
			want:  "a@x.test"},
		{name: "inside senders only, ignored",
			object: in(func(o *directory.Object) { o.InternalOnly = true }, "smtp:a@x.test"), want: "a@x.test"},
		{name: "inside senders only", object: in(func(o *directory.Object) { o.InternalOnly = true },
			"smtp:a@x.test"), rules: Rules{InternalOnly: true}, want: "!a@x.test"},
		{name: "disabled", object: in(func(o *directory.Object) { o.Disabled = true }, "smtp:a@x.test"),
			want: "a@x.test"},
		{name: "disabled, omitted", object: in(func(o *directory.Object) { o.Disabled = true }, "smtp:a@x.test"),
			rules: Rules{OmitDisabled: true}},
		{name: "shared mailbox", object: in(func(o *directory.Object) { o.Disabled, o.RecipientType = true, 4 },
			"smtp:a@x.test"), rules: Rules{OmitDisabled: true}, want: "a@x.test"},
		{name: "remote room", object: in(func(o *directory.Object) { o.Disabled, o.RecipientType = true, 8589934592 },
			"smtp:a@x.test"), rules: Rules{OmitDisabled: true}, want: "a@x.test"},
		{name: "system mailbox", object: in(func(o *directory.Object) { o.RecipientType = 8388608 }, "smtp:a@x.test"),
			want: "a@x.test"},
		{name: "system mailbox, disabled accounts omitted",
			object: in(func(o *directory.Object) { o.Disabled, o.RecipientType = true, 8388608 },
				"smtp:a@x.test"), rules: Rules{OmitDisabled: true}, want: "a@x.test"},
		{name: "user who left, omitted",
			object: in(func(o *directory.Object) { o.Disabled, o.RecipientType = true, 1 }, "smtp:a@x.test"),
			rules:  Rules{OmitDisabled: true}},
		{name: "remote user who left, omitted",
			object: in(func(o *directory.Object) { o.Disabled, o.RecipientType = true, 2147483648 },
				"smtp:a@x.test"), rules: Rules{OmitDisabled: true}},
		{name: "user who stays", object: in(func(o *directory.Object) { o.RecipientType = 1 }, "smtp:a@x.test"),
			rules: Rules{OmitDisabled: true, OmitSystem: true}, want: "a@x.test"},
		{name: "system mailbox, omitted",
			object: in(func(o *directory.Object) { o.RecipientType = 549755813888 },
				"smtp:a@x.test"), rules: Rules{OmitSystem: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := classify(c.object, c.rules)
			var list []string
			for _, a := range got.Addresses {
				text := a.Address.String()
				if a.InternalOnly {
					text = "!" + text
				}
				list = append(list, text)
			}
			if strings.Join(list, " ") != c.want || got.Unparsed != c.unparsed {
				t.Errorf("owns %q, %d unparsed, want %q, %d", list, got.Unparsed, c.want, c.unparsed)
			}
			if got.GUID != [16]byte{1} || got.DN != c.object.DN || got.Deleted != c.object.Deleted {
				t.Errorf("identity lost: %+v", got)
			}
		})
	}
}

func TestContainersAreWatched(t *testing.T) {
	for class, want := range map[string]bool{"organizationalunit": true, "container": true, "group": false} {
		t.Run(class, func(t *testing.T) {
			got := classify(directory.Object{Classes: []string{"top", class}}, Rules{})
			if got.Container != want || got.Class != class {
				t.Errorf("a %s is a container: %t, class %q, want %t", class, got.Container, got.Class, want)
			}
		})
	}
}

func TestFoldDN(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"OU=Sales,DC=Corp,DC=Example", "ou=sales,dc=corp,dc=example"},
		{" OU = Sales , DC=corp ,DC=example ", "ou=sales,dc=corp,dc=example"},
		{`CN=Doe\, John,DC=x`, `cn=doe\, john,dc=x`},
		{`CN=space\ ,DC=x`, `cn=space\ ,dc=x`},
		{`CN=a b,DC=x`, `cn=a b,dc=x`},
		{`CN=Ünal,DC=x`, `cn=ünal,dc=x`},
		{`OU=R\2cD\2C,DC=x`, `ou=r\,d\,,dc=x`},
		{`OU=M\C3\BCnchen,DC=x`, `ou=münchen,dc=x`},
		{`OU=a\=b\#c,DC=x`, `ou=a=b#c,dc=x`},
		{`CN=back\\2C,DC=x`, `cn=back\\2c,dc=x`}, // a backslash followed by 2C
		{`CN=Doe\0ADEL:1,DC=x`, `cn=doe\0adel:1,dc=x`},
		{`CN=cut\`, `cn=cut\`},
		{`CN=cut\2`, `cn=cut2`},
		{"", ""},
	} {
		t.Run(c.in, func(t *testing.T) {
			if got := foldDN(c.in); got != c.want {
				t.Errorf("foldDN(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestFingerprint(t *testing.T) {
	base := Rules{}.fingerprint()
	if got := (Rules{Attributes: []string{"proxyAddresses", "MAIL"}}).fingerprint(); got != base {
		t.Errorf("the defaults written out give %q, want %q", got, base)
	}
	seen := map[string]string{base: "defaults"}
	for name, r := range map[string]Rules{
		"attributes": {Attributes: []string{"mail"}}, "bases": {Bases: []string{"DC=x"}},
		"exclude": {Exclude: []string{"DC=x"}}, "outside": {InternalOnly: true},
		"system": {OmitSystem: true}, "disabled": {OmitDisabled: true},
	} {
		if other := seen[r.fingerprint()]; other != "" {
			t.Errorf("%s and %s have the same fingerprint", name, other)
		}
		seen[r.fingerprint()] = name
	}
	a, b := Rules{Bases: []string{"OU=a,DC=x", "OU=b,DC=x"}}, Rules{Bases: []string{"ou=B, dc=X", "OU=A,DC=x"}}
	if a.fingerprint() != b.fingerprint() {
		t.Error("order and spelling of bases change the fingerprint")
	}
}

// TestClassesThatAreRead: a class that the directory reads is a recipient or a container, and no other
// class is, because objects of others never arrive.
func TestClassesThatAreRead(t *testing.T) {
	for _, class := range slices.Concat(directory.RecipientClasses(), directory.ContainerClasses()) {
		t.Run(class, func(t *testing.T) {
			o := directory.Object{GUID: directory.GUID{1}, Classes: []string{"top", class}}
			if classOf(&o) != class || class != strings.ToLower(class) {
				t.Errorf("class %q, want %q", classOf(&o), class)
			}
			if recipient, container := isRecipient(&o, Rules{}), isContainer(&o); recipient == container {
				t.Errorf("recipient %t, container %t", recipient, container)
			}
		})
	}
}
