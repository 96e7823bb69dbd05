package directory

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// TestRejectedTickets: with a keytab the Kerberos server has accepted the key, so only the state of
// the account is a reason to wait.
func TestRejectedTickets(t *testing.T) {
	r := newRealm(t)
	s := adsim.StartTest(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{Accept: r.accept})
	config := r.config(s)
	for code, want := range map[string]error{
		"52e": ErrRefused, "525": ErrRefused, "57": ErrRefused, "80090346": ErrRefused, "99999": ErrRefused,
		"533": ErrCredentials, "775": ErrCredentials,
	} {
		t.Run(code, func(t *testing.T) {
			s.SetFaults(adsim.Faults{BindSubCode: code})
			_, err := Dial(t.Context(), config)
			wantError(t, code, err, want, "data "+code)
			if errors.Is(err, ErrCredentials) != (want == ErrCredentials) {
				t.Errorf("%s: %v", code, err)
			}
		})
	}
}

// bindCodeRow matches one row of the table in the document.
var bindCodeRow = regexp.MustCompile("(?m)^\\| `[0-9a-f]+` \\| `(ERROR|SEC)_")

// TestBindCodesAreDocumented with their names and what they are about.
func TestBindCodesAreDocumented(t *testing.T) {
	page := string(must[[]byte](t)(os.ReadFile("../docs/active-directory.md")))
	for code, c := range bindCodes {
		about := "this controller"
		if c.account {
			about = "account"
		}
		row := fmt.Sprintf("\n| `%s` | `%s` | %s | ", code, c.name, about)
		if !strings.Contains(page, row) {
			t.Errorf("docs/active-directory.md lacks the row %s", row)
		}
	}
	if n := len(bindCodeRow.FindAllString(page, -1)); n != len(bindCodes) {
		t.Errorf("%d rows, want %d", n, len(bindCodes))
	}
}
