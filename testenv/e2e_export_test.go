package testenv_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// exported is the file of export, on the volume that the daemon and mx share. Postfix has its table
// beside it. The daemon's container has no postmap, so the test runs the command of export in mx;
// TestPackage has both on one host.
const exported = "/var/spool/postfix/rcpt-milter/relay_recipients"

const exportConfig = "export: {file: " + exported + ", every: 1s}\n"

// The smtpd of TestExportWithoutDaemon: one for each way in which Postfix can have the table.
const (
	byMilter         = testenv.PortSMTP      // as documented: the milter alone
	byTable          = testenv.PortSpare     // as documented for a longer outage: the table alone
	besideTempfail   = testenv.PortSpare + 1 // the table beside the milter as it is documented
	besideAccept     = testenv.PortSpare + 2 // the table beside a milter with default_action=accept
	besideClientMaps = testenv.PortSpare + 3 // the table beside the milter, which smtpd_milter_maps can switch off
)

// TestExportWithoutDaemon kills and stops the daemon while the automatic export is in place, and
// asks Postfix in each of its settings about a known and an unknown recipient. With the daemon, it
// asks about a recipient that is newer than the table as well.
func TestExportWithoutDaemon(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Configure(e.ctx, testenv.Overlay(exportConfig)))
	e.must(e.Start(e.ctx, testenv.Milter))
	e.exports("alice@corp.example")
	e.root("postmap hash:" + exported + "\n: > /etc/postfix/milter_clients")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		e.ExecInput(ctx, testenv.MX, "rm -f "+exported+"* /etc/postfix/milter_clients\n", "sh")
	})
	const table = "relay_recipient_maps = hash:" + exported
	milter := func(action string) string {
		return "smtpd_milters = { unix:rcpt-milter/milter.sock, connect_timeout=5s, command_timeout=10s, " +
			"default_action=" + action + " }"
	}
	e.smtpd(byTable, table, "smtpd_milters =")
	e.smtpd(besideTempfail, table, milter("tempfail"))
	e.smtpd(besideAccept, table, milter("accept"))
	e.smtpd(besideClientMaps, table, milter("tempfail"), "smtpd_milter_maps = cidr:/etc/postfix/milter_clients")

	e.says("running", map[int][2]int{byMilter: {250, 550}, byTable: {250, 550}, besideTempfail: {250, 550},
		besideAccept: {250, 550}, besideClientMaps: {250, 550}})
	const newcomer = "newer-than-table@corp.example"
	dn, err := domain.AddUser(testenv.Person{Name: "newer", Proxies: []string{"SMTP:" + newcomer}})
	e.must(err)
	t.Cleanup(func() { domain.Delete(dn) })
	e.exports(newcomer)
	for port, want := range map[int]int{byMilter: 250, byTable: 550, besideTempfail: 550, besideAccept: 550} {
		e.repliesAt("newer than the table", port, newcomer, want)
	}
	e.root("postmap hash:" + exported)
	for _, port := range []int{byMilter, byTable, besideTempfail, besideAccept} {
		e.awaitAt(port, newcomer, 250)
	}

	for _, end := range []struct {
		name string
		end  func(context.Context, string) error
	}{{"killed", e.Kill}, {"stopped", e.Stop}} {
		e.must(end.end(e.ctx, testenv.Milter))
		e.says(end.name, map[int][2]int{byMilter: {451, 451}, byTable: {250, 550}, besideTempfail: {451, 451},
			besideAccept: {250, 550}, besideClientMaps: {451, 451}})
		e.must(e.Start(e.ctx, testenv.Milter))
		e.awaitAt(besideTempfail, "alice@corp.example", 250)
	}
	// By hand, without a change of main.cf: no client gets a milter.
	e.must(e.Kill(e.ctx, testenv.Milter))
	e.root("printf '0.0.0.0/0 DISABLE\n::/0 DISABLE\n' > /etc/postfix/milter_clients\npostfix reload")
	e.awaitAt(besideClientMaps, "alice@corp.example", 250)
	e.says("switched off", map[int][2]int{besideClientMaps: {250, 550}})
}

// exports waits until the exported file has a recipient.
func (e *edge) exports(recipient string) {
	e.t.Helper()
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		text, err := e.ReadFile(ctx, testenv.MX, exported)
		if err == nil && !strings.Contains(text, "\n"+recipient) {
			err = fmt.Errorf("the exported file has no %s yet", recipient)
		}
		return err
	}))
}

// says checks the replies to a known and to an unknown recipient, by port.
func (e *edge) says(when string, want map[int][2]int) {
	e.t.Helper()
	for port, codes := range want {
		e.repliesAt(when, port, "alice@corp.example", codes[0])
		e.repliesAt(when, port, "nobody@corp.example", codes[1])
	}
}

// repliesAt checks the present reply of a smtpd of mx to one recipient.
func (e *edge) repliesAt(when string, port int, recipient string, code int) {
	e.t.Helper()
	address, err := e.Address(e.ctx, testenv.MX, port)
	e.must(err)
	reply, err := testenv.AskOnce(e.ctx, address, recipient)
	e.must(err)
	if reply.Code() != code {
		e.t.Errorf("%s: port %d replied %q to %s, want %d", when, port, reply, recipient, code)
	}
}

// awaitAt waits until a smtpd of mx gives a recipient this code.
func (e *edge) awaitAt(port int, recipient string, code int) {
	e.t.Helper()
	address, err := e.Address(e.ctx, testenv.MX, port)
	e.must(err)
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		reply, err := testenv.AskOnce(ctx, address, recipient)
		if err == nil && reply.Code() != code {
			err = fmt.Errorf("port %d replied %q to %s, want %d", port, reply, recipient, code)
		}
		return err
	}))
}
