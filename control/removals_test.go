package control

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func heldRemovals(n int) (list []HeldRemoval) {
	at := Time{time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)}
	for i := range n {
		list = append(list, HeldRemoval{Directory: []string{"corp", "lab"}[i%2],
			Address: fmt.Sprintf("u%d@example.com", i), GUID: "01",
			DN: "CN=U", Class: "user", Pass: 7, Since: at, LastOwner: true, WaitsFor: WaitsReplication,
			NotBefore: Time{at.Add(time.Hour)}})
	}
	return list
}

func TestRemovals(t *testing.T) {
	f := &fake{removals: heldRemovals(500)}
	client, _ := start(t, f)
	for _, c := range []struct {
		directory string
		want      int
	}{{"", 500}, {"lab", 250}, {"nowhere & else", 0}} {
		var got []HeldRemoval
		err := client.Removals(t.Context(), RemovalsQuery{Directory: c.directory}, func(h HeldRemoval) error {
			got = append(got, h)
			return nil
		})
		if err != nil || len(got) != c.want {
			t.Errorf("Removals of %q: %d and %v, want %d", c.directory, len(got), err, c.want)
		}
		if c.directory == "" {
			if d := cmp.Diff(f.removals, got); d != "" {
				t.Errorf("Removals (-want +got):\n%s", d)
			}
		}
	}
	enough := errors.New("enough")
	if err := client.Removals(t.Context(), RemovalsQuery{}, func(HeldRemoval) error { return enough }); err != enough {
		t.Errorf("Removals with an error of the visitor: %v", err)
	}
	f.err = errors.New("the disk is on fire")
	if err := client.Removals(t.Context(), RemovalsQuery{}, func(HeldRemoval) error { return nil }); err == nil ||
		err.Error() != f.err.Error() {
		t.Errorf("Removals with an error of the backend: %v", err)
	}
}

func TestSettle(t *testing.T) {
	asked := ""
	client, _ := start(t, &fake{settled: func(what string, q RemovalsQuery, tell func(RemovalsDone)) error {
		asked = what + " " + q.Directory
		tell(RemovalsDone{Directory: "corp", Removed: 5, Pass: 9})
		tell(RemovalsDone{Directory: "lab", Kept: 3})
		return errors.New("directory far: the store is closed")
	}})
	want := []RemovalsDone{{Directory: "corp", Removed: 5, Pass: 9}, {Directory: "lab", Kept: 3}}
	for what, do := range map[string]func(q RemovalsQuery, tell func(RemovalsDone)) error{
		"approve": func(q RemovalsQuery, tell func(RemovalsDone)) error { return client.Approve(t.Context(), q, tell) },
		"discard": func(q RemovalsQuery, tell func(RemovalsDone)) error { return client.Discard(t.Context(), q, tell) },
	} {
		var got []RemovalsDone
		err := do(RemovalsQuery{Directory: "x"}, func(d RemovalsDone) { got = append(got, d) })
		if err == nil || err.Error() != "directory far: the store is closed" || asked != what+" x" {
			t.Errorf("%s asks to %q and gives %v", what, asked, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
}
