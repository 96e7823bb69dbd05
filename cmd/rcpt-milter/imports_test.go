package main

import (
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "rcpt-milter"

// mayImport lists the packages of this module that each of its packages may import. Patterns are
// those of path.Match. A package imports downwards only, so there is no circle and no shortcut.
var mayImport = map[string]string{
	"address":         "",
	"directory":       "address internal/files",
	"store":           "address internal/files",
	"policy":          "address",
	"policy/harvest":  "policy",
	"mirror":          "address directory store policy internal/safely", // policy: the state of freshness
	"stream":          "address directory store internal/*",
	"stream/engine":   "stream internal/*",
	"milter":          "address policy internal/*",
	"socketmap":       "address policy internal/*",
	"config":          "address policy internal/*", // policy: modes and fallbacks
	"postfix/table":   "address internal/files internal/text",
	"postfix":         "address postfix/table internal/text",
	"control":         "address policy internal/build",
	"control/web":     "control internal/text",
	"control/metrics": "control",
	"control/nagios":  "control internal/text",
	"control/console": "control policy internal/terminal internal/text", // policy: modes
	"daemon": "address directory store mirror policy policy/harvest milter socketmap config postfix/table control " +
		"control/* stream stream/engine internal/files internal/logging internal/safely internal/socket internal/text",
	"cmd/rcpt-milter": "address directory config postfix postfix/table control control/console control/nagios " +
		"daemon docs internal/*",
	"docs":                   "",
	"internal/build":         "",
	"internal/files":         "internal/text",
	"internal/logging":       "",
	"internal/safely":        "",
	"internal/socket":        "internal/logging",
	"internal/terminal":      "internal/text",
	"internal/text":          "",
	"deploy/exchange-online": "", // tests of its scripts
	"testenv":                "",
	"testenv/adsim":          "",
	"testenv/soak":           "",
	"testenv/soak/fleet":     "",
	"testenv/bench":          "testenv testenv/adsim",
	"cmd/testenv":            "testenv",
}

// onlyIn lists the packages that a library may be imported in. The library stays exchangeable,
// and its types stay out of the interfaces of other packages.
var onlyIn = map[string]string{
	"github.com/dgraph-io/badger":         "store",
	"github.com/go-ldap/ldap":             "directory",
	"github.com/emersion/go-milter":       "milter",
	"github.com/nats-io":                  "stream stream/*",
	"github.com/spf13":                    "cmd/*",
	"github.com/charmbracelet":            "cmd/rcpt-milter internal/terminal",
	"github.com/prometheus/client_golang": "control/metrics",
	"github.com/coreos/go-systemd":        "daemon internal/logging internal/socket",
}

func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		all := strings.Fields(line)
		name := strings.TrimPrefix(all[0], module+"/")
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s has no row in mayImport", name)
			continue
		}
		for _, imported := range all[1:] {
			if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !matches(allowed, ours) {
				t.Errorf("%s must not import %s; it may import: %s", name, ours, allowed)
			}
			for library, rooms := range onlyIn {
				if strings.HasPrefix(imported, library) && !matches(rooms, name) && !strings.HasPrefix(name, "testenv") {
					t.Errorf("%s must not import %s, which only %s may", name, imported, rooms)
				}
			}
		}
	}
}

// matches reports whether one of the patterns matches a package.
func matches(patterns, name string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(pattern string) bool {
		matched, _ := path.Match(pattern, name)
		return matched
	})
}
