package control

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func compareEvents() []CompareEvent {
	at := Time{time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)}
	return []CompareEvent{
		{Progress: &CompareProgress{Directory: "corp", Objects: 1000}},
		{Difference: &Difference{Directory: "corp", Address: "a@example.com", GUID: "01", DN: "CN=A", Class: "user",
			InIndex: true,
			Cause:   CauseReplication, NotBefore: at}},
		{Directory: &ComparedDirectory{Name: "corp", DomainController: "dc1", Followed: true, USN: 9, Objects: 3,
			Addresses: 4, Differences: 1,
			Unlisted: 2, Unsettled: "the pass failed", Seconds: 1.5, Error: "cut off"}},
	}
}

func TestCompare(t *testing.T) {
	var asked CompareQuery
	client, _ := start(t, &fake{compare: func(_ context.Context, q CompareQuery, tell func(CompareEvent) error) error {
		asked = q
		for _, e := range compareEvents() {
			if err := tell(e); err != nil {
				return err
			}
		}
		return errors.New("directory corp: cut off")
	}})
	var got []CompareEvent
	err := client.Compare(t.Context(), CompareQuery{Directory: "corp"}, func(e CompareEvent) error {
		got = append(got, e)
		return nil
	})
	if err == nil || err.Error() != "directory corp: cut off" || asked.Directory != "corp" {
		t.Errorf("Compare asks %+v: %v", asked, err)
	}
	if d := cmp.Diff(compareEvents(), got); d != "" {
		t.Errorf("Compare (-want +got):\n%s", d)
	}
}

func TestComparedEqual(t *testing.T) {
	for _, c := range []struct {
		d    ComparedDirectory
		want bool
	}{
		{ComparedDirectory{Objects: 3, Unsettled: "changes"}, true},
		{ComparedDirectory{Differences: 1}, false},
		{ComparedDirectory{Unlisted: 1}, false},
		{ComparedDirectory{Error: "cut off"}, false},
	} {
		if got := c.d.Equal(); got != c.want {
			t.Errorf("%+v is equal: %t, want %t", c.d, got, c.want)
		}
	}
}
