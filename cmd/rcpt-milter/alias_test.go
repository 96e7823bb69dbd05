package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/daemon"
	"rcpt-milter/testenv/adsim"
)

// aliasRig has a domain alias by the configuration, one by a file, and a recipient for inside
// senders.
func aliasRig(t *testing.T) (r *rig, file string) {
	r = newRig(t, "domain_aliases: {Alias.example: corp.example, reported.example: corp.example}",
		"inside: {networks: [10.0.0.0/8]}", `recipient_delimiter: "+"`)
	r.edit("  report.example: report\n", "  report.example: report\n  alias.example: enforce\n  reported.example: "+
		"report\n  filed.example: enforce\n  outward.example: enforce\n")
	r.edit("    poll: 100ms\n", "    poll: 100ms\n    domains: [corp.example, own.example, alias.example, "+
		"filed.example, outward.example, report.example]\n    internal_only: refuse\n")
	file = r.write("virtual", "@filed.example @corp.example\nonly@filed.example x\n@outward.example "+
		"@elsewhere.example\nsmtp:x@corp.example OK\nx@foreign.example OK\ny@foreign.example 550 no\n")
	r.edit("removal_grace: 0s\n", "removal_grace: 0s\naccept_files: ["+file+"]\n")
	r.addUser("own", "smtp:own@alias.example")
	if _, err := r.ad.Add(adsim.Group, "CN=staff,CN=Users,"+base,
		adsim.Attrs{"proxyAddresses": {"smtp:staff@corp.example"}, "msExchRequireAuthToSendTo": {"TRUE"}}); err != nil {
		t.Fatal(err)
	}
	return r, file
}

// TestLookupAliases: lookup says by what an address is judged as another one, and which inside
// network a client is in.
func TestLookupAliases(t *testing.T) {
	r, file := aliasRig(t)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	for _, c := range []struct {
		args      string
		status    int
		row       int
		verdict   string
		judgedAs  string
		aliasedBy string
		entry     string // of the configuration or a file
		matched   string
	}{
		{"Jane@alias.example", exitOK, 6, "known", "jane@corp.example", "domain_aliases", "", "jane@corp.example"},
		{"jane+x@alias.example", exitOK, 6, "known", "jane+x@corp.example", "domain_aliases", "", "jane@corp.example"},
		{"own@alias.example", exitOK, 6, "known", "", "", "", "own@alias.example"},
		{"nobody@alias.example", exitFailure, 12, "unknown", "nobody@corp.example", "domain_aliases", "", ""},
		{"nobody@reported.example", exitOK, 12, "unknown", "nobody@corp.example", "domain_aliases", "", ""},
		{"jane@filed.example", exitOK, 6, "known", "jane@corp.example", file + ":1", "", "jane@corp.example"},
		{"only@filed.example", exitOK, 5, "allowlisted", "", "", file + ":2", "only@filed.example"},
		{"nobody@filed.example", exitFailure, 12, "unknown", "nobody@corp.example", file + ":1", "", ""},
		{"nobody@outward.example", exitOK, 5, "allowlisted", "nobody@elsewhere.example", file + ":3", file + ":3", ""},
		{"staff@corp.example", exitFailure, 6, "restricted", "", "", "", "staff@corp.example"},
		{"staff@corp.example --client 10.1.2.3", exitOK, 6, "known", "", "", "10.0.0.0/8", "staff@corp.example"},
		{"staff@alias.example --client ::ffff:10.1.2.3", exitOK, 6, "known", "staff@corp.example", "domain_aliases",
			"10.0.0.0/8", "staff@corp.example"},
		{"staff@corp.example --client 64:ff9b::10.1.2.3", exitOK, 6, "known", "", "", "10.0.0.0/8",
			"staff@corp.example"},
		{"nobody@corp.example --client 10.1.2.3", exitFailure, 12, "unknown", "", "", "", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			address, _, _ := strings.Cut(c.args, " ")
			domain := address[strings.IndexByte(address, '@')+1:]
			got := r.lookup(c.status, strings.Fields(c.args)...)
			if got.Rule != c.row || got.Verdict != c.verdict || got.JudgedAs != c.judgedAs ||
				got.AliasedBy != c.aliasedBy || got.Entry != c.entry || got.Matched != c.matched {
				t.Errorf("answer %+v, want %+v", got, c)
			}
			if got.Canonical != strings.ToLower(address) || got.Domain != domain ||
				got.WouldRefuse != (domain == "reported.example") {
				t.Errorf("answer %+v", got)
			}
			if owned := c.verdict == "known" || c.verdict == "restricted"; owned != (len(got.Owners) == 1) {
				t.Errorf("owners %+v", got.Owners)
			}
		})
	}

	// Both keys, and the lines of the file, change with a reload.
	r.edit("domain_aliases: {Alias.example: corp.example, reported.example: corp.example}", "domain_aliases: {}")
	r.edit("inside: {networks: [10.0.0.0/8]}", "inside: {networks: [192.0.2.0/24]}")
	if err := os.WriteFile(file, []byte("@filed.example @report.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.edit("  reported.example: report\n", "")
	r.want(exitOK, "reload")
	r.want(exitFailure, "lookup", "jane@alias.example")
	r.want(exitTemporary, "lookup", "jane@filed.example") // of report.example no address is known
	r.want(exitFailure, "lookup", "staff@corp.example", "--client", "10.1.2.3")
	r.want(exitOK, "lookup", "staff@corp.example", "--client", "192.0.2.3")
}

// TestAliasFiles: status, check and the log name what an accept file holds in vain.
func TestAliasFiles(t *testing.T) {
	r, file := aliasRig(t)
	d := r.serve()
	files := r.status().AcceptFiles
	if len(files) != 1 || files[0].Entries != 5 || files[0].Aliases != 2 || files[0].Domains != 0 ||
		files[0].Unread != 1 || files[0].Unmatched != 2 ||
		len(files[0].UnmatchedLines) != 1 || !strings.HasPrefix(files[0].UnmatchedLines[0],
		`line 5: 2 entries of domain "foreign.example" can never match`) {
		t.Errorf("status --json says %+v", files)
	}
	all := r.findings(false)
	for name, value := range map[string]string{
		"warning:accept-line-invalid":  file + `, line 4: "smtp:x@corp.example"`,
		"warning:accept-line-unjudged": file + `, line 5: 2 entries of domain "foreign.example"`,
		"warning:accept-line-action":   file + `, line 6: "y@foreign.example" is accepted, although its value "550"`,
		"warning:alias-open":           file + ", line 3: every recipient of outward.example",
		"ok:accept-file":               file + ": 5 entries, 0 of them whole domains, 2 domain aliases",
	} {
		if found := named(all, name); len(found) != 1 || !strings.Contains(found[0].Text, value) {
			t.Errorf("check finds %+v, want %s with %q", all, name, value)
		}
	}
	_, page, _ := r.command("status")
	for _, want := range []string{`line 4: "smtp:x@corp.example" can never match`,
		`line 5: 2 entries of domain "foreign.example"`} {
		if !strings.Contains(page, want) {
			t.Errorf("status has no %q:\n%s", want, page)
		}
	}
	d.stop()
	for _, want := range []string{`msg="line of an accept file does not count" file=` + file + " line=4",
		`msg="line of an accept file accepts what it seems to reject" file=` + file + " line=6",
		`msg="entries of an accept file can never match" file=` + file + " line=5"} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, d.log)
		}
	}
}

// TestExportAliases: the list has the recipients of aliases, and comparing a table finds them.
func TestExportAliases(t *testing.T) {
	r, _ := aliasRig(t)
	r.addUser("both", "smtp:own@corp.example", "smtp:only@corp.example")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	var all []control.Recipient
	if err := json.Unmarshal([]byte(r.want(exitOK, "export", "--format", "json")), &all); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range all {
		if a.Source == control.SourceAlias || a.Source == control.SourceFile || strings.HasSuffix(a.Address,
			"own@alias.example") {
			text := a.Address + " " + a.Source
			if a.Restricted {
				text += " restricted"
			}
			got = append(got, text)
		}
	}
	slices.Sort(got)
	want := []string{
		"@outward.example accept_files",
		"jane.doe@alias.example alias", "jane.doe@filed.example alias", "jane.doe@reported.example alias",
		"jane@alias.example alias", "jane@filed.example alias", "jane@reported.example alias",
		"only@alias.example alias", "only@filed.example accept_files", "only@reported.example alias",
		"own@alias.example index", "own@filed.example alias", "own@reported.example alias",
		"staff@alias.example alias restricted", "staff@filed.example alias restricted",
		"staff@reported.example alias restricted",
	}
	if !slices.Equal(got, want) {
		t.Errorf("export gives\n%q, want\n%q", got, want)
	}
	table := r.write("old", r.want(exitOK, "export", "--restricted"))
	_, stdout, _ := r.command("compare", "--table", table, "--json")
	var compared comparedTable
	if err := json.Unmarshal([]byte(stdout), &compared); err != nil {
		t.Fatal(err)
	}
	for _, d := range compared.Differences {
		if d.Cause != daemon.TableAlways && d.Cause != daemon.TableListed && d.Cause != daemon.TableDomain {
			t.Errorf("comparing what was exported finds %+v", d)
		}
	}
}

// TestExportRefusedAlias: what refuse names at a target of an alias is not in the list, with
// any other targets beside it.
func TestExportRefusedAlias(t *testing.T) {
	r, _ := aliasRig(t)
	file := r.write("twofold", "@twofold.example @corp.example @report.example\n")
	r.edit("  outward.example: enforce\n", "  outward.example: enforce\n  twofold.example: enforce\n")
	r.edit("outward.example, report.example]", "outward.example, report.example, twofold.example]")
	r.edit("accept_files: [", "refuse: [barred@corp.example]\naccept_files: ["+file+", ")
	r.addUser("barred", "smtp:barred@corp.example", "smtp:own@report.example")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	if got := r.lookup(exitFailure, "barred@twofold.example"); got.Verdict != "denylisted" || got.Rule != 5 {
		t.Errorf("lookup gives %+v", got)
	}
	out := r.want(exitOK, "export", "--format", "text", "--restricted")
	if strings.Contains(out, "barred@") || !strings.Contains(out, "jane@twofold.example\n") || !strings.Contains(out,
		"own@twofold.example\n") {
		t.Errorf("export lists\n%s", out)
	}
}

// TestCompareAliases: an alias of a table that the configuration does not have is a difference.
func TestCompareAliases(t *testing.T) {
	r, _ := aliasRig(t)
	r.edit("alias.example: enforce\n", "alias.example: enforce\n  missing.example: enforce\n  whole.example: enforce\n")
	r.edit("own.example,", "own.example, missing.example, whole.example,")
	r.edit("removal_grace: 0s\n", "removal_grace: 0s\naccept: [\"@whole.example\"]\n")
	r.addUser("here", "smtp:here@missing.example")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	table := r.write("old", "jane@corp.example x\njane@alias.example x\nstaff@alias.example x\ngone@alias.example "+
		"x\n@alias.example @corp.example\n"+
		"@missing.example @corp.example\n@whole.example @corp.example\n@foreign.example @corp.example\n")
	_, stdout, _ := r.command("compare", "--table", table, "--json")
	var compared comparedTable
	if err := json.Unmarshal([]byte(stdout), &compared); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range compared.Differences {
		if d.InTable {
			got[d.Address] = strings.TrimSpace(d.Cause + " " + d.Entry)
		}
	}
	want := map[string]string{"gone@alias.example": daemon.TableUnknown, "@missing.example": "alias @corp.example",
		"@whole.example": "listed @whole.example"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("table only (-want +got):\n%s", d)
	}
	if c := compared.Table; c.Unjudged != 1 || c.Common != 4 {
		t.Errorf("the table: %+v", c)
	}
	if out := r.want(exitFailure, "compare", "--table", table); !strings.Contains(out,
		"maps the domain to @corp.example: domain_aliases") || strings.Contains(out, "here@missing.example") {
		t.Errorf("compare --table says\n%s", out)
	}
}

// TestEmptyAliases: an enforced alias needs no address of its own; its target does.
func TestEmptyAliases(t *testing.T) {
	r := newRig(t, "domain_aliases: {alias.example: corp.example, a.sub.example: alias.example}")
	r.edit("  report.example: report\n", "  report.example: report\n  alias.example: enforce\n  .sub.example: "+
		"enforce\n")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	if got := r.status().EmptyDomains; len(got) > 0 {
		t.Errorf("domains without an address: %q", got)
	}
	for _, command := range []string{"check", "check --live"} {
		if out := r.want(exitOK, strings.Fields(command)...); strings.Contains(out, "when_not_ready") {
			t.Errorf("%s says\n%s", command, out)
		}
	}
	r.want(exitFailure, "lookup", "nobody@alias.example")
	r.want(exitFailure, "lookup", "nobody@a.sub.example")
	r.want(exitTemporary, "lookup", "nobody@b.sub.example")
	r.edit("alias.example: corp.example,", "alias.example: misspelt.example,")
	r.want(exitOK, "reload")
	r.want(exitTemporary, "lookup", "nobody@alias.example")
	r.want(exitTemporary, "lookup", "nobody@a.sub.example")
	if got := r.status().EmptyDomains; !slices.Equal(got, []string{"misspelt.example"}) {
		t.Errorf("with a target that is misspelt, domains without an address: %q", got)
	}
}

// TestReportOfAliases: a refused recipient of an alias is compared with the names at the target.
func TestReportOfAliases(t *testing.T) {
	r, _ := aliasRig(t)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "jame@alias.example", "550 5.1.1 <jame@alias.example>")
	session.want(t, "jane@alias.example", "continue")
	var report control.Report
	if err := json.Unmarshal([]byte(r.want(exitOK, "report", "--json")), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.NearMisses) != 1 || report.NearMisses[0].Name != "jame@alias.example" ||
		!slices.Contains(report.NearMisses[0].Known, "jane@corp.example") {
		t.Errorf("near misses %+v of %+v", report.NearMisses, report.Addresses)
	}
	d.stop()
	if line := `to=jane@alias.example verdict=known reply=continue would_refuse=false reason="in the index" ` +
		`judged_as=jane@corp.example aliased_by=domain_aliases`; !strings.Contains(d.log.String(), line) {
		t.Errorf("the log has no %q:\n%s", line, d.log)
	}
}

// TestAliasesForDoctor: doctor knows the aliases of the configuration and of the accept files.
func TestAliasesForDoctor(t *testing.T) {
	r, _ := aliasRig(t)
	c, err := config.Load(r.config)
	if err != nil {
		t.Fatal(err)
	}
	got := aliasesOf(c)
	for alias, want := range map[string]string{"alias.example": "corp.example", "reported.example": "corp.example",
		"filed.example": "corp.example", "outward.example": "elsewhere.example"} {
		if !slices.Equal(got[alias], []string{want}) {
			t.Errorf("%s is an alias of %q, want %s", alias, got[alias], want)
		}
	}
}
