package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

func TestJournal(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	if out := r.want(exitOK, "journal"); !strings.HasPrefix(out, "Nothing changed since ") {
		t.Errorf("journal after the first full pass says %q", out)
	}
	if got := rows[control.JournalRow](r, exitOK, "journal"); len(got) != 0 || got == nil {
		t.Errorf("journal --json gives %v, want an empty list", got)
	}
	if out := r.want(exitOK, "journal", "--pass", "1"); !strings.Contains(out,
		"no row of pass 1: it changed nothing, was the first full pass") {
		t.Errorf("journal --pass 1 says %q", out)
	}
	began := time.Now()
	late := r.addUser("late", "smtp:Late@corp.example")
	r.want(exitOK, "sync", "--wait")
	entry, err := r.ad.Get(late)
	if err != nil {
		t.Fatal(err)
	}
	r.delete(late)
	r.want(exitOK, "sync", "--wait")

	got := rows[control.JournalRow](r, exitOK, "journal")
	if len(got) != 2 || got[0].Change != "+" || got[1].Change != "-" {
		t.Fatalf("journal --json gives %+v", got)
	}
	for i, row := range got {
		if row.Address != "late@corp.example" || row.Directory != "corp" || row.GUID != entry.GUID.String() ||
			!strings.HasPrefix(row.DN, "CN=late") ||
			row.Pass < 2 || row.DomainController != r.ad.HostName() || row.Time.Before(began) {
			t.Errorf("row %d of the journal: %+v", i, row)
		}
	}
	if got[0].USN != entry.USN || got[1].USN <= entry.USN || got[1].Pass <= got[0].Pass {
		t.Errorf("rows of the journal: %+v, want USN %d and a later one", got, entry.USN)
	}
	out := r.want(exitOK, "journal", "--since", "1h")
	for _, want := range []string{"+ late@corp.example   CN=late,", fmt.Sprintf("   pass %d of corp   %s   USN %d   ",
		got[0].Pass, r.ad.HostName(), entry.USN),
		"\n- late@corp.example   CN=late"} {
		if !strings.Contains(out, want) {
			t.Errorf("journal has no %q:\n%s", want, out)
		}
	}
	pass := fmt.Sprint(got[1].Pass)
	if got := rows[control.JournalRow](r, exitOK, "journal", "--pass", pass); len(got) != 1 || got[0].Change != "-" {
		t.Errorf("journal --pass %s gives %+v", pass, got)
	}
	if got := rows[control.JournalRow](r, exitOK, "journal", "--pass", pass, "--since", "0s"); len(got) != 0 {
		t.Errorf("journal --pass %s --since 0s gives %+v", pass, got)
	}
	r.want(exitUsage, "journal", "--since", "tomorrow")
	r.want(exitUsage, "journal", "--pass", "x")
}

func TestJournalList(t *testing.T) {
	a, out := pageApp()
	l := &journalList{app: a}
	for _, row := range []control.JournalRow{
		{Change: "+", Address: "ann@x.test", DN: "CN=Ann", Directory: "corp", Pass: 7, DomainController: "dc1",
			USN: 4711, Time: before(time.Hour)},
		{Change: "-", Address: "bob\x1b@x.test", DN: "CN=\x1b[2J", Directory: "lab", Pass: 12,
			Time: before(time.Minute)},
		{Change: "-", Address: "eve@x.test", DN: "CN=Eve", Directory: "corp", Pass: 13, DomainController: "dc1",
			USN: 4712, Time: before(time.Minute), InternalOnly: true},
		{Change: "+", Address: "eve@x.test", DN: "CN=Eve", Directory: "corp", Pass: 14, DomainController: "dc1",
			USN: 4713, Time: before(time.Minute), InternalOnly: true},
	} {
		if err := l.add(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.end(control.JournalQuery{}); err != nil {
		t.Fatal(err)
	}
	compare(t, "journal.txt", out.String())
}
