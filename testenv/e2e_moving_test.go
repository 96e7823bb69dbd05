package testenv_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// inForce changes the settings of the running Postfix until the end of the test.
func (c clinic) inForce(script string) {
	c.t.Helper()
	c.root("cp /etc/postfix/main.cf /tmp/main.cf.before")
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c.ExecInput(ctx, testenv.MX, "cp /tmp/main.cf.before /etc/postfix/main.cf && postfix reload\n", "sh")
	})
	c.root(script + "\npostfix reload")
}

// TestExportedTable replaces the daemon with an exported table. The real Postfix then accepts
// every recipient that AD has, in every spelling, and rejects all others.
func TestExportedTable(t *testing.T) {
	c := openClinic(t)
	domain := c.administrator()
	dn, err := domain.AddUser(testenv.Person{Name: "spelling",
		Proxies: []string{`smtp:"two words"@corp.example`, "smtp:dots..in.it@corp.example",
			"smtp:grüße@corp.example", `smtp:"a,b;c"@corp.example`, "smtp:o'brien+x%y@corp.example"}})
	c.must(err)
	t.Cleanup(func() { domain.Delete(dn) })
	_, err = c.AwaitCaughtUp(c.ctx, domain)
	c.must(err)
	said := c.root("cd /etc/postfix && " + toolPath + " export --output /etc/postfix/exported && postmap " +
		"hash:/etc/postfix/exported 2>&1")
	if said != "" {
		t.Errorf("postmap says %s", said)
	}
	c.inForce("postconf -e 'relay_recipient_maps = hash:/etc/postfix/exported' 'smtpd_milters ='")
	recipients, _, err := domain.Recipients()
	c.must(err)
	ours := recipients[:0:0]
	for _, a := range recipients {
		if name := a[strings.LastIndexByte(a, '@')+1:]; name == "corp.example" || name == "report.example" ||
			strings.HasSuffix(name, ".sub.example") {
			ours = append(ours, a)
		}
	}
	replies, err := c.AskAll(c.ctx, append(ours, "anybody@pass.example", "postmaster@corp.example",
		"nobody@corp.example", "nobody@report.example"))
	c.must(err)
	for recipient, reply := range replies {
		want := 250
		if strings.HasPrefix(recipient, "nobody@") {
			want = 550
		}
		if reply.Code() != want {
			t.Errorf("with the exported table Postfix says %q to %s, want %d", reply, recipient, want)
		}
	}
	t.Logf("%d recipients of AD asked for", len(ours))
}

// TestMovingOver: an old table with stale and missing entries beside the daemon.
func TestMovingOver(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	const table = "/etc/rcpt-milter/relay_recipients"
	left, err := domain.AddUser(testenv.Person{Name: "leaver", Proxies: []string{"smtp:leaver@corp.example"}})
	e.must(err)
	t.Cleanup(func() { domain.Delete(left) })
	fresh, err := domain.AddUser(testenv.Person{Name: "fresh", Proxies: []string{"smtp:fresh@corp.example"}})
	e.must(err)
	t.Cleanup(func() { domain.Delete(fresh) })
	_, err = e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	recipients, _, err := domain.Recipients()
	e.must(err)
	old := "# made last night\nstale@corp.example OK\nspoilt corp.example OK\n"
	for _, a := range recipients {
		if a != "fresh@corp.example" {
			old += a + " OK\n"
		}
	}
	e.must(e.WriteFile(e.ctx, testenv.Milter, table, old))
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Configure(e.ctx, testenv.Replace("domains:\n", "accept_files: ["+table+"]\ndomains:\n")))
	e.must(e.Start(e.ctx, testenv.Milter))
	e.must(domain.Delete(left))
	_, err = e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)

	out, err := e.RunMilter(e.ctx, "compare", "--table", table)
	e.must(err)
	t.Logf("compare --table (exit status %d):\n%s%s", out.Status, out.Stdout, out.Stderr)
	for _, want := range []string{"stale@corp.example ", "not in any directory", "leaver@corp.example ",
		"left the directories ", "fresh@corp.example ", "rejected by the table",
		"2 in the table only, 1 in the index only", `does not count: line 3: "spoilt" is neither`} {
		if !strings.Contains(out.Stdout, want) {
			t.Errorf("compare --table has no %q", want)
		}
	}
	if out.Status != 1 {
		t.Errorf("compare --table ends with %d", out.Status)
	}
	// No recipient is lost on the way: addresses of the table that AD lacks are accepted.
	for recipient, code := range map[string]int{"stale@corp.example": 250, "leaver@corp.example": 250,
		"fresh@corp.example": 250, "nobody@corp.example": 550} {
		e.replies(recipient, code, "")
	}
	// The daemon watches the file: it applies the removal of a stale line without a reload.
	e.must(e.WriteFile(e.ctx, testenv.Milter, table, strings.ReplaceAll(old, "stale@corp.example OK\n", "")))
	_, _, err = e.AwaitReply(e.ctx, "stale@corp.example", 550)
	e.must(err)
	// It does not apply a file that a failed script emptied.
	e.must(e.WriteFile(e.ctx, testenv.Milter, table, ""))
	e.must(testenv.AwaitNil(e.ctx, 200*time.Millisecond, func(ctx context.Context) error {
		out, err := e.RunMilter(ctx, "status")
		if err == nil && !strings.Contains(out.Stdout, "its last good copy has been in effect") {
			err = fmt.Errorf("status says %s", out.Stdout)
		}
		return err
	}))
	e.replies("leaver@corp.example", 250, "")
}

// TestRelocated: Postfix itself replies for a relocated user, although the directory no longer
// has the address.
func TestRelocated(t *testing.T) {
	c := openClinic(t)
	c.inForce("postconf -e 'relocated_maps = inline:{gone@corp.example=new@elsewhere.example}'")
	c.replies("gone@corp.example", 550, "5.1.6")
}

// TestDocumentedCommands runs the commands of the documents about Postfix as written, in a
// copy of the configuration.
func TestDocumentedCommands(t *testing.T) {
	c := openClinic(t, mapConfig)
	script := "rm -rf /tmp/docs && cp -a /etc/postfix /tmp/docs && cd /tmp/docs\n" +
		"sed -i '/^submission/,$d' master.cf\nprintf 'submission inet n - y - - smtpd\\n127.0.0.1:10025 inet n - y " +
		"- - smtpd\\n' >> master.cf\n" +
		"postconf -c . -e 'virtual_alias_maps =' && printf 'ann@corp.example OK\\n' > relay_recipients\n"
	ran := 0
	for _, page := range []string{"postfix.md", "moving-over.md"} {
		text, err := os.ReadFile(filepath.Join("..", "docs", page))
		c.must(err)
		for line := range strings.Lines(string(text)) {
			command, code := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
			if !code || strings.HasPrefix(command, " ") {
				continue
			}
			command = inCopy(command)
			ran++
			script += fmt.Sprintf("( %s\n) > out 2>&1 || { echo 'does not work:' && echo %q && cat out; }\n",
				command, command)
		}
	}
	if said := c.root(script); said != "" || ran < 20 {
		t.Errorf("of %d commands:\n%s", ran, said)
	}
}

// inCopy returns a documented command for the copy of the configuration. It omits commands
// that would change the harness, or that need a missing part.
func inCopy(command string) string {
	command = strings.NewReplacer("-c /etc/postfix-in ", "", "--postfix-config /etc/postfix-in", "", "lmdb:", "hash:",
		"/etc/postfix/relay_recipients", "/tmp/docs/relay_recipients", "/var/lib/postfix/",
		"/tmp/docs/").Replace(command)
	word, rest, _ := strings.Cut(command, " ")
	if strings.HasPrefix(word, "@") { // a line of a table
		return "true"
	}
	switch word {
	case "semanage", "semodule", "ausearch": // Debian has no SELinux by default
		return "true"
	case "postconf":
		return "postconf -c /tmp/docs " + rest
	case "postfix", "systemctl":
		return "true"
	case "17": // a line for cron
		return inCopy(strings.TrimPrefix(command, "17 3 * * * root "))
	case "rcpt-milter":
		switch {
		case strings.HasPrefix(rest, "doctor"):
			return toolPath + " doctor --postfix-config /tmp/docs || test $? = 1"
		case strings.HasPrefix(rest, "check"): // it needs the password
			return "true"
		case strings.HasPrefix(rest, "compare"):
			return toolPath + " " + rest + " || test $? = 1"
		}
		return toolPath + " " + rest
	}
	return command
}
