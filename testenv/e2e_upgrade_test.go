package testenv_test

import (
	"encoding/json"
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// upgradeFrom is a package of an earlier version. TestPackage upgrades between two builds of the
// present sources.
var upgradeFrom = flag.String("upgrade.from", "", "package from which TestUpgradeFrom upgrades to the present one")

// TestUpgradeFrom installs an earlier package, gives its daemon an index, a journal and a record of
// rejections, and upgrades it. All of them must survive, and so must the configuration and the
// password. No valid recipient may get 5xx meanwhile.
func TestUpgradeFrom(t *testing.T) {
	if *upgradeFrom == "" {
		t.Skip("upgrade from another package: run it with `go run ./cmd/testenv test ./testenv -run UpgradeFrom " +
			"-args -upgrade.from PACKAGE`")
	}
	from, err := filepath.Abs(*upgradeFrom)
	if err != nil {
		t.Fatal(err)
	}
	next := buildPackage(t, "go -C deploy/deb run .", "9999.0.0")
	n := mailServer(t)
	n.receives(from)
	n.sh("apt install ./rcpt-milter_*.deb < /dev/null")
	n.edits(ownController, testenv.Replace("corp.example: report", "corp.example: enforce"),
		func(text string) string { return text + "# Of the administrator.\nremoval_grace: 0s\n" })
	n.sh("install -m 0640 -g rcpt-milter /dev/null " + testenv.PasswordFile)
	n.writes(testenv.PasswordFile, testenv.MailPassword+"\n")
	n.knowsAuthority()
	n.sh("systemctl start rcpt-milter")
	n.fresh()
	n.sh("postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, connect_timeout=5s, command_timeout=10s, " +
		"default_action=tempfail }' && systemctl reload postfix")
	n.awaits("nobody@corp.example", refused)
	n.hears("ann@corp.example", accepted)
	domain := n.administrator()
	dn, err := domain.AddUser(testenv.Person{Name: "leaver", Proxies: []string{"SMTP:leaver@corp.example"}})
	n.must(err)
	n.sh("rcpt-milter sync --wait")
	n.must(domain.Delete(dn))
	n.sh("rcpt-milter sync --wait")

	kept := "cat " + testenv.ConfigFile + "; stat -c '%n %U:%G %a' /etc/rcpt-milter /etc/rcpt-milter/config.yaml " +
		testenv.PasswordFile + " " + testenv.StoreDir
	before, files, versions := n.indexed(), n.sh(kept), n.sh("rcpt-milter version; ls "+testenv.StoreDir)
	address, err := n.Address(n.ctx, testenv.Systemd, testenv.PortSMTP)
	n.must(err)
	stop := n.whileAt(address, "ann@corp.example")
	n.receives(next)
	began := time.Now()
	n.sh("echo | apt install ./rcpt-milter_*.deb")
	t.Logf("apt install: %.1f s", time.Since(began).Seconds())
	n.fresh()
	t.Logf("fresh after %.1f s", time.Since(began).Seconds())
	stop()
	n.judges()
	n.is("rcpt-milter", "ActiveState", "active")
	n.shows("rcpt-milter version", "9999.0.0")
	if got := n.sh(kept); got != files {
		t.Errorf("after the upgrade:\n%s\nbefore it:\n%s", got, files)
	}
	if after := n.indexed(); after != before {
		t.Errorf("after the upgrade the index has %+v, before it %+v", after, before)
	}
	n.shows("rcpt-milter journal --since 24h", "leaver@corp.example")
	n.shows("rcpt-milter report --since 24h", "nobody@corp.example")
	n.has("lookup", n.try("rcpt-milter lookup leaver@corp.example").Stdout, "550")
	t.Logf("before: %+v\n%s\nafter:\n%s", before, versions, n.sh("rcpt-milter version; ls "+testenv.StoreDir+
		"; rcpt-milter check < /dev/null 2>&1 || true; rcpt-milter doctor || true"))
}

// index is what an upgrade must not change.
type index struct{ Addresses, Objects int }

// indexed returns what the daemon of the mail server knows.
func (n *newcomer) indexed() index {
	n.t.Helper()
	var status index
	n.must(json.Unmarshal([]byte(n.try("rcpt-milter status --json").Stdout), &status))
	if status.Addresses == 0 || strings.TrimSpace(n.sh("ls "+testenv.StoreDir)) == "" {
		n.t.Fatal("the daemon has no index")
	}
	return status
}
