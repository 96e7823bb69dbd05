package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/daemon"
	"rcpt-milter/internal/text"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/testenv/adsim"
)

// listedRig has recipients of every kind.
func listedRig(t *testing.T) *rig {
	r := newRig(t, `accept: ["@catch.example", extra@corp.example, Jane@corp.example]`, "refuse: [left@corp.example]",
		`accept_patterns: ['srs0=.*@corp\.example']`)
	r.edit("  report.example: report\n", "  report.example: report\n  catch.example: enforce\n  pass.example: pass\n  "+
		".below.example: enforce\n")
	r.edit("    poll: 100ms\n", "    poll: 100ms\n    internal_only: refuse\n")
	r.edit("removal_grace: 0s\n", "removal_grace: 0s\naccept_files: ["+r.write("table",
		"filed@corp.example OK\nleft@corp.example OK\njane@corp.example OK\n"+
			"@report.example OK\nx@elsewhere.example OK\n\"unbalanced@corp.example OK\n")+"]\n")
	r.addUser("left", "smtp:left@corp.example")
	r.addUser("bob", "smtp:bob@report.example", "smtp:bob@pass.example", "smtp:bob@elsewhere.example",
		"smtp:postmaster@corp.example", "smtp:bob@sub.below.example")
	r.addUser("odd", `smtp:"john doe"@corp.example`, "smtp:jürgen@münchen.below.example", "smtp:#hash@corp.example")
	if _, err := r.ad.Add(adsim.Group, "CN=inside,CN=Users,"+base,
		adsim.Attrs{"proxyAddresses": {"smtp:inside@corp.example"},
			"msExchRequireAuthToSendTo": {"TRUE"}}); err != nil {
		t.Fatal(err)
	}
	return r
}

const exportedText = `"john doe"@corp.example
#hash@corp.example
bob@report.example
bob@sub.below.example
jane.doe@corp.example
jane@corp.example
jürgen@xn--mnchen-3ya.below.example
postmaster@corp.example
extra@corp.example
filed@corp.example
`

func TestExport(t *testing.T) {
	r := listedRig(t)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	if out := r.want(exitOK, "export", "--format", "text"); out != exportedText {
		t.Errorf("export --format text gives\n%swant\n%s", out, exportedText)
	}
	table := r.want(exitOK, "export")
	r.wantTable(table)
	for _, want := range []string{"# The index is fresh: 12 addresses, digest ",
		"\n# Directory corp: fresh, last read 20", "pass.example (pass)",
		"\n#     postmap lmdb:FILE\n", "\n# Accepted by the daemon, and not by this table: what matches srs0=",
		"\n# omitted because a table cannot hold them (a first #, or an invisible character): #hash@corp.example\n",
		"\njürgen@münchen.below.example\tOK\n"} {
		if !strings.Contains(table, want) {
			t.Errorf("export has no %q:\n%s", want, table)
		}
	}
	var all []control.Recipient
	if err := json.Unmarshal([]byte(r.want(exitOK, "export", "--format", "json", "--all")), &all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []control.Recipient{{Address: "inside@corp.example", Source: control.SourceIndex,
		Restricted: true},
		{Address: "bob@elsewhere.example", Source: control.SourceIndex}, {Address: "bob@pass.example",
			Source: control.SourceIndex},
		{Address: "x@elsewhere.example", Source: control.SourceFile}, {Address: "jane@corp.example",
			Source: control.SourceIndex},
		{Address: "@catch.example", Source: control.SourceAccept}, {Address: "abuse@corp.example",
			Source: control.SourceAlways}, {Address: "@pass.example", Source: control.SourcePass}} {
		if !slices.Contains(all, want) {
			t.Errorf("export --format json --all has no %+v:\n%+v", want, all)
		}
	}
	if out := r.want(exitOK, "export", "--format", "text", "--restricted"); !strings.Contains(out,
		"inside@corp.example\n") {
		t.Errorf("export --restricted gives\n%s", out)
	}
	d.stop()
	out := r.want(exitOK, "export", "--format", "text")
	if !strings.HasPrefix(out, exportedText+"rcpt-milter: the daemon is not reachable") || !strings.Contains(out,
		"answering from its store\n") {
		t.Errorf("export from the store gives\n%s", out)
	}
}

// wantTable checks that a table has what the edge accepts, and nothing twice.
func (r *rig) wantTable(text string) {
	r.t.Helper()
	table, err := tables.Read(strings.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	want := "@catch.example @pass.example @report.example \"john doe\"@corp.example abuse@corp.example " +
		"abuse@catch.example abuse@report.example abuse@sub.below.example " +
		"abuse@xn--mnchen-3ya.below.example bob@report.example bob@sub.below.example extra@corp.example " +
		"filed@corp.example jane.doe@corp.example jane@corp.example " +
		"jürgen@xn--mnchen-3ya.below.example postmaster@catch.example postmaster@corp.example " +
		"postmaster@report.example postmaster@sub.below.example postmaster@xn--mnchen-3ya.below.example"
	var keys []string
	for key := range table.All() {
		keys = append(keys, strings.ReplaceAll(key, " ", "_"))
	}
	wanted := strings.Fields(strings.ReplaceAll(want, `"john doe"`, `"john_doe"`))
	slices.Sort(wanted)
	slices.Sort(keys)
	if !slices.Equal(keys, wanted) {
		r.t.Errorf("the table has\n%q, want\n%q", keys, wanted)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(text) {
		if lines[line] && line != "#\n" {
			r.t.Errorf("line %q is there twice", line)
		}
		lines[line] = true
	}
}

func TestExportToFile(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir, "relay_recipients")
	if err := os.WriteFile(path, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := func(what string) {
		t.Helper()
		if text, err := os.ReadFile(path); err != nil || string(text) != "old\n" {
			t.Errorf("%s: the file is %q, %v", what, text, err)
		}
		if left, _ := filepath.Glob(filepath.Join(r.dir, ".relay*")); len(left) > 0 {
			t.Errorf("%s: left behind: %q", what, left)
		}
	}
	if out := r.want(exitNotReachable, "export", "--output", path); !strings.Contains(out,
		path+" is as it was: the daemon is not reachable") {
		t.Errorf("without a daemon: %s", out)
	}
	old("without a daemon")
	r.server.Down()
	d := r.serve()
	if out := r.want(exitFailure, "export", "--output", path); !strings.Contains(out,
		"directory corp has not been read in full yet, and its recipients would be missing") {
		t.Errorf("not ready: %s", out)
	}
	old("not ready")
	d.stop()
	r.server.Up()
	r.edit("corp.example: enforce", "other.example: enforce")
	d = r.serve()
	r.want(exitOK, "sync", "--wait")
	if out := r.want(exitFailure, "export", "--output", path); !strings.Contains(out,
		"an empty list would reject every recipient") {
		t.Errorf("empty: %s", out)
	}
	old("empty")
	r.want(exitOK, "export", "--output", path, "--force", "--format", "text")
	if text, _ := os.ReadFile(path); len(text) != 0 {
		t.Errorf("forced: %q", text)
	}
	d.stop()
	r.edit("other.example: enforce", "corp.example: enforce")
	r.serve()
	r.want(exitOK, "export", "--output", path)
	info, err := os.Stat(path)
	table, err2 := tables.ReadFile(path)
	if err != nil || err2 != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("written: %v, %v, %v", info.Mode(), err, err2)
	}
	a, err := address.Parse("jane@corp.example")
	if err != nil || table.Find(a) == 0 || table.Len() != 6 {
		t.Errorf("the table has %d entries", table.Len())
	}
	r.want(exitUsage, "export", "--format", "hash")
	if out := r.want(exitFailure, "export", "--output", r.dir); !strings.Contains(out, "not a regular file") {
		t.Errorf("over a directory: %s", out)
	}
}

// TestExportPrintsNothingHidden: a list on a terminal looks like what it is.
func TestExportPrintsNothingHidden(t *testing.T) {
	const hidden = "a\u202eb\u200c\u2066c\u200bd@corp.example"
	for _, format := range []string{"text", "postmap"} {
		var out bytes.Buffer
		list := daemon.NewRecipientList(daemon.ListOptions{Format: format}, &out)
		err := list.Add([]control.Recipient{
			{Address: "ann@corp.example", Source: control.SourceIndex}, {Address: hidden, Source: control.SourceIndex},
			{Address: "bob@corp.example", Source: control.SourceIndex}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := list.End(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if line := strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", " "); !text.IsPrintable(line) {
				t.Errorf("%s has the line %q", format, line)
			}
		}
		for _, want := range []string{"ann@corp.example", "bob@corp.example",
			`a\u202eb\u200c\u2066c\u200bd@corp.example`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s has no %s:\n%s", format, want, &out)
			}
		}
	}
}
