package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// manFiles are the files that rcpt-milter(8) lists.
var manFiles = []struct{ path, text string }{
	{"/etc/rcpt-milter/config.yaml", "The configuration, see rcpt-milter.yaml(5)."},
	{"/etc/rcpt-milter/password", "The password of the account that reads the directory (bind.password_file)."},
	{"/var/lib/rcpt-milter", "The index, its journal and the record of rejected recipients (store.dir)."},
	{"/var/lib/rcpt-milter/accept-files", "The last good copies of the accept files, for the next start " +
		"(accept_files)."},
	{"/var/spool/postfix/rcpt-milter/milter.sock", "The socket for Postfix (listen)."},
	{"/run/rcpt-milter/control.sock", "The socket for the commands (control)."},
	{"/run/rcpt-milter/page.sock", "The status page (page.listen)."},
	{"/usr/share/doc/rcpt-milter", "Documents, alert rules, a dashboard, licences and the bill of materials."},
}

// manExamples are the examples of rcpt-milter(8). A test parses them.
var manExamples = []struct{ text, command string }{
	{"Check the configuration and each domain controller, as the account of the daemon:",
		"runuser -u rcpt-milter -- rcpt-milter check --live"},
	{"Show the reply that a recipient gets, and why:", "rcpt-milter lookup ann@corp.example"},
	{"Show what was rejected, or would be in mode report, in the last day:", "rcpt-milter report --since 24h"},
	{"Find differences between Postfix and the daemon:", "rcpt-milter doctor"},
	{"Read a removal that the guard holds, and apply it:", "rcpt-milter removals"},
	{"", "rcpt-milter removals approve"},
}

// insertSections adds the sections that the library does not know, in front of SEE ALSO.
func insertSections(page *bytes.Buffer, root *cobra.Command) {
	var s strings.Builder
	s.WriteString(".SH COMMANDS\n")
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(&s, ".TP\n\\fB%s\\fP\n%s.\n", roff(c.Name()), roff(c.Short))
		}
	}
	s.WriteString(".SH EXIT STATUS\n")
	for _, e := range []struct {
		status int
		text   string
	}{{exitOK, "Success."}, {exitFailure, "Failure, or as the page of the command says."},
		{exitTemporary, "As the page of the command says."}, {exitNotReachable, "The daemon is not reachable."},
		{exitUsage, "Wrong usage."}, {exitConfig, "The configuration is invalid."}} {
		fmt.Fprintf(&s, ".TP\n\\fB%d\\fP\n%s\n", e.status, roff(e.text))
	}
	s.WriteString(".SH FILES\n")
	for _, f := range manFiles {
		fmt.Fprintf(&s, ".TP\n\\fI%s\\fP\n%s\n", roff(f.path), roff(f.text))
	}
	s.WriteString(".SH EXAMPLES\n")
	for _, e := range manExamples {
		if e.text != "" {
			fmt.Fprintf(&s, ".PP\n%s\n", roff(e.text))
		}
		fmt.Fprintf(&s, ".PP\n.RS\n.nf\n%s\n.fi\n.RE\n", roff(e.command))
	}
	text := page.String()
	at := strings.LastIndex(text, ".SH SEE ALSO")
	page.Reset()
	page.WriteString(text[:at] + s.String() + text[at:])
}

// roff escapes text for a manual page.
func roff(text string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text) }
