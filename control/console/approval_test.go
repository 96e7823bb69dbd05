package console

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
)

// TestApproval: only yes approves, and only what was shown.
func TestApproval(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   []control.RemovalsQuery
	}{
		{"yes\n", []control.RemovalsQuery{{Directory: "corp", UpTo: 8}, {Directory: "lab", UpTo: 3}}},
		{" yes \r\n", []control.RemovalsQuery{{Directory: "corp", UpTo: 8}, {Directory: "lab", UpTo: 3}}},
		{"y\n", nil}, {"no\n", nil}, {"\n", nil}, {"", nil}, {"YES\n", nil},
	} {
		t.Run(fmt.Sprintf("%q", c.answer), func(t *testing.T) {
			held := Approval{UpTo: 8}
			for _, h := range []control.HeldRemoval{
				{Directory: "corp", Address: "ann@corp.example", Pass: 7, WaitsFor: control.WaitsApproval},
				{Directory: "corp", Address: "bob@corp.example", Pass: 8, WaitsFor: control.WaitsApproval},
				{Directory: "corp", Address: "late@corp.example", Pass: 9, WaitsFor: control.WaitsApproval},
				{Directory: "corp", Address: "lag@corp.example", Pass: 8, WaitsFor: control.WaitsReplication},
				{Directory: "lab", Address: "x@lab.example", Pass: 3, WaitsFor: control.WaitsApproval}} {
				held.Add(h)
			}
			var out strings.Builder
			got, err := held.Ask(control.RemovalsQuery{}, strings.NewReader(c.answer), &out)
			if d := cmp.Diff(c.want, got); d != "" || (c.want == nil) != errors.Is(err, ErrNotConfirmed) {
				t.Errorf("answer %q: %v (-want +got):\n%s", c.answer, err, d)
			}
			compare(t, "removals-confirm.txt", out.String())
		})
	}
	none := Approval{}
	q := control.RemovalsQuery{Directory: "corp"}
	if got, err := none.Ask(q, strings.NewReader(""), nil); err != nil || len(got) != 1 || got[0] != q {
		t.Errorf("with nothing held: %v, %v", got, err)
	}
}
