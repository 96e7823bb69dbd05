package directory

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestSubCode(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 52e, v4563\x00", "52e"},
		{"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 775, v1db1", "775"},
		{"comment: AcceptSecurityContext error, data 52E", "52e"},
		{"Simple Bind Failed: NT_STATUS_LOGON_FAILURE", ""},
		{"data ", ""},
		{"", ""},
	} {
		t.Run(tc.text, func(t *testing.T) {
			if got := subCode(tc.text); got != tc.want {
				t.Errorf("subCode(%q) = %q, want %q", tc.text, got, tc.want)
			}
		})
	}
}

func TestDiagnostic(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"0000208D: NameErr\x00", `"0000208D: NameErr"`},
		{"best match of:\n\t'DC=x'", `"best match of:'DC=x'"`},
		{strings.Repeat("é", 150), `"` + strings.Repeat("é", 100) + `…"`},
	} {
		t.Run(tc.text, func(t *testing.T) {
			if got := diagnostic(&ldap.Error{Err: errors.New(tc.text)}); got != tc.want {
				t.Errorf("diagnostic(%q) = %s, want %s", tc.text, got, tc.want)
			}
		})
	}
	if got := diagnostic(&ldap.Error{}); got != `""` {
		t.Errorf("diagnostic of nothing = %s", got)
	}
}

func TestGUIDString(t *testing.T) {
	for _, tc := range []struct {
		wire GUID
		want string
	}{
		{GUID{0x53, 0x9e, 0x2f, 0x8a, 0x4c, 0x61, 0x7b, 0x42, 0x8d, 0x10, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06},
			"8a2f9e53-614c-427b-8d10-010203040506"},
		{GUID{}, "00000000-0000-0000-0000-000000000000"},
		{GUID{15: 0xff}, "00000000-0000-0000-0000-0000000000ff"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			if got := tc.wire.String(); got != tc.want {
				t.Errorf("GUID(%x) = %s, want %s", tc.wire[:], got, tc.want)
			}
		})
	}
}
