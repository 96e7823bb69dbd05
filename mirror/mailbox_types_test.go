package mirror

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"rcpt-milter/directory"
)

// TestKindsOfMailboxes checks each kind with both settings.
func TestKindsOfMailboxes(t *testing.T) {
	owns := func(kind int64, rules Rules) bool {
		o := directory.Object{Classes: []string{"top", "user"}, Disabled: true, RecipientType: kind,
			Values: values("smtp:a@x.test")}
		return len(classify(o, rules).Addresses) == 1
	}
	for _, c := range []struct {
		name  string
		types []mailboxType
		rules Rules
		want  bool
	}{
		{"always disabled, disabled omitted", disabledTypes, Rules{OmitDisabled: true}, true},
		{"always disabled, both omitted", disabledTypes[:4], Rules{OmitDisabled: true, OmitSystem: true}, true},
		{"always disabled and remote, both omitted", disabledTypes[8:16], Rules{OmitDisabled: true, OmitSystem: true},
			true},
		{"always disabled, none omitted", disabledTypes, Rules{}, true},
		{"system, system omitted", systemTypes, Rules{OmitSystem: true}, false},
		{"system, both omitted", systemTypes, Rules{OmitSystem: true, OmitDisabled: true}, false},
		{"always disabled and of Exchange itself, both omitted", disabledTypes[4:8],
			Rules{OmitDisabled: true, OmitSystem: true}, false},
		{"system, none omitted", systemTypes, Rules{}, true},
		{"others, disabled omitted", []mailboxType{{"None", 0}, {"UserMailbox", 1}, {"LegacyMailbox", 8},
			{"MailUser", 128}, {"DisabledUser", 2097152}, {"RemoteUserMailbox", 2147483648},
			{"SystemAttendantMailbox", 8192}, {"MonitoringMailbox", 549755813888}},
			Rules{OmitDisabled: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range c.types {
				if got := owns(kind.value, c.rules); got != c.want {
					t.Errorf("%s (%d) with system omitted %t and disabled omitted %t owns its address: %t, want %t",
						kind.name, kind.value, c.rules.OmitSystem, c.rules.OmitDisabled, got, c.want)
				}
			}
		})
	}
}

// TestKindsAreDocumented checks that docs/active-directory.md has exactly the lists in the code, with their
// numbers.
func TestKindsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/active-directory.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\w+)(?: \([^)]*\))? \| (\d+) \|$`)
	for title, types := range map[string][]mailboxType{"spared by disabled_accounts: omit": disabledTypes,
		"left out by system_mailboxes: omit": systemTypes} {
		t.Run(title, func(t *testing.T) {
			_, table, found := strings.Cut(string(text), "| kind "+title+" |")
			if !found {
				t.Fatalf("no table of the kinds %s", title)
			}
			table, _, _ = strings.Cut(table, "\n\n")
			documented := map[string]string{}
			for _, m := range row.FindAllStringSubmatch(table, -1) {
				documented[m[1]] = m[2]
			}
			for _, kind := range types {
				if documented[kind.name] != fmt.Sprint(kind.value) {
					t.Errorf("%s is %d and documented as %q", kind.name, kind.value, documented[kind.name])
				}
				delete(documented, kind.name)
			}
			if len(documented) > 0 {
				t.Errorf("documented as %s, and not so in the code: %v", title, documented)
			}
		})
	}
}
