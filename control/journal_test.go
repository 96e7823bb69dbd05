package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func journalRows(n int) (list []JournalRow) {
	at := Time{time.Date(2026, 3, 4, 12, 0, 0, 123456000, time.UTC)}
	for i := range n {
		list = append(list, JournalRow{Change: Lost, Address: fmt.Sprintf("u%d@example.com", i), Directory: "corp",
			GUID: "01", DN: "CN=U",
			Pass: 7, DomainController: "dc1", USN: 9, Time: at})
	}
	return list
}

func TestJournal(t *testing.T) {
	want := journalRows(300)
	var asked JournalQuery
	client, _ := start(t, &fake{journal: func(q JournalQuery, visit func(JournalRow) error) error {
		asked = q
		for _, r := range want {
			if err := visit(r); err != nil {
				return err
			}
		}
		return nil
	}})
	for _, q := range []JournalQuery{{}, {Since: Time{want[0].Time.Time}}, {Pass: 1 << 63}} {
		var got []JournalRow
		err := client.Journal(t.Context(), q, func(r JournalRow) error {
			got = append(got, r)
			return nil
		})
		if err != nil || asked != q {
			t.Errorf("Journal(%+v) asks %+v: %v", q, asked, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Journal (-want +got):\n%s", d)
		}
	}
}

// TestJournalClientLeaves: who reads only the beginning stops the work.
func TestJournalClientLeaves(t *testing.T) {
	stopped := make(chan error, 1)
	row := journalRows(1)[0]
	client, _ := start(t, &fake{journal: func(q JournalQuery, visit func(JournalRow) error) error {
		for {
			if err := visit(row); err != nil {
				stopped <- err
				return err
			}
		}
	}})
	enough := fmt.Errorf("enough")
	if err := client.Journal(t.Context(), JournalQuery{}, func(JournalRow) error { return enough }); err != enough {
		t.Errorf("Journal: %v", err)
	}
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Error("the backend continues without a client")
	}
}
