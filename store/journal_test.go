package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rowsOf returns the journal, one line for each row.
func rowsOf(t *testing.T, s *Store, q JournalQuery) []string {
	t.Helper()
	rows := []string{}
	err := s.Journal(q, func(e Event) error {
		change := "-"
		if e.Added {
			change = "+"
		}
		rows = append(rows, fmt.Sprintf("%s%s of %d in pass %d of %s from %s at %d, %v after the start",
			change, e.Address, e.GUID[15], e.Pass, e.Directory, e.Controller, e.USN, e.Time.Sub(start)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestJournal(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "!c@x.test"))
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", object(t, 3, "d@x.test"),
		object(t, 1, "b@x.test", "e@x.test"))
	pass(t, s, "lab", Full, start.Add(90*time.Minute), "", object(t, 9, "b@x.test"))
	pass(t, s, "corp", Incremental, start.Add(2*time.Hour), "held", object(t, 3))
	pass(t, s, "corp", Full, start.Add(3*time.Hour), "", object(t, 1, "b@x.test", "e@x.test"), object(t, 3))
	s = reopen(t, s)
	second := []string{
		"+d@x.test of 3 in pass 2 of corp from dc1.corp.example at 3, 1h0m0s after the start",
		"+e@x.test of 1 in pass 2 of corp from dc1.corp.example at 1, 1h0m0s after the start",
		"-a@x.test of 1 in pass 2 of corp from dc1.corp.example at 1, 1h0m1s after the start",
	}
	fifth := []string{
		"-c@x.test of 2 in pass 5 of corp from dc1.corp.example at 0, 3h0m1s after the start",
		"-d@x.test of 3 in pass 5 of corp from dc1.corp.example at 3, 3h0m1s after the start",
	}
	for _, c := range []struct {
		name string
		q    JournalQuery
		want []string
	}{
		{"all", JournalQuery{}, append(second[:3:3], fifth...)},
		{"since the beginning of a pass", JournalQuery{Since: start.Add(time.Hour)}, append(second[:3:3], fifth...)},
		{"since its end", JournalQuery{Since: start.Add(time.Hour + time.Second)}, append(second[2:3:3], fifth...)},
		{"since later", JournalQuery{Since: start.Add(4 * time.Hour)}, []string{}},
		{"one pass", JournalQuery{Pass: 2}, second},
		{"one pass, since later", JournalQuery{Pass: 2, Since: start.Add(4 * time.Hour)}, []string{}},
		{"the first full pass of another directory", JournalQuery{Pass: 3}, []string{}},
		{"no such pass", JournalQuery{Pass: 512}, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, rowsOf(t, s, c.q)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	enough := errors.New("enough")
	if err := s.Journal(JournalQuery{}, func(Event) error { return enough }); err != enough {
		t.Errorf("an error of the visitor comes back as %v", err)
	}
	// What the row of a loss has about the time before.
	s.Journal(JournalQuery{Pass: 5}, func(e Event) error {
		if internalOnly := e.Address.Local() == "c"; e.InternalOnly != internalOnly || e.Learned.IsZero() {
			t.Errorf("a loss: %+v", e)
		}
		return nil
	})
}

// TestFirstJournalRows: rows of the first versions, without origin and details, can be read.
func TestFirstJournalRows(t *testing.T) {
	whole := journalRecord{time: start, added: true, dir: 1, guid: GUID{1}, dn: "CN=x", address: "a@x.test",
		origin: 2, usn: 3}
	e := whole.encode()
	got, err := decodeJournal(e[:len(e)-4])
	want := whole
	want.origin, want.usn = 0, 0
	if d := cmp.Diff(want, got, cmp.AllowUnexported(journalRecord{})); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}
