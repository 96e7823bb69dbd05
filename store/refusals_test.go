package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// refuse adds n refusals of one address by one network.
func refuse(r *Refusals, n int, address, network string, at time.Time) {
	for range n {
		r.Add(Refusal{Time: at, Address: address, Domain: "x.test", Network: network, Verdict: "unknown"})
	}
}

// counts returns the totals by text.
func counts(t *Tally) map[string]int64 {
	m := map[string]int64{}
	for _, r := range t.Rows() {
		m[r.Text] = r.Total
	}
	return m
}

func TestRefusalsAreKept(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	at := start.Truncate(time.Hour).Add(10 * time.Minute)
	for h := range 3 {
		r, err := s.RefusalsOf(at.Add(time.Duration(h) * time.Hour))
		if err != nil || r.Total != 0 {
			t.Fatalf("a new store has refused %d, %v", r.Total, err)
		}
		refuse(r, h+1, "a@x.test", "192.0.2.0/24", at.Add(time.Duration(h)*time.Hour))
		r.Add(Refusal{Time: at, Domain: "y.test", Verdict: "refused", WouldRefuse: true})
		r.AddUnlisted(5, 1)
		if err := s.PutRefusals(r); err != nil {
			t.Fatal(err)
		}
	}
	s = reopen(t, s)
	sum, err := s.RefusalsSince(at.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if want := at.Add(50 * time.Minute); !sum.From.Equal(want) {
		t.Errorf("the sum begins at %v, want %v", sum.From, want)
	}
	if sum.Total != 2+3+2+12 || sum.WouldRefuse != 4 || sum.Unlisted != 12 {
		t.Errorf("total %d, would refuse %d, unlisted %d", sum.Total, sum.WouldRefuse, sum.Unlisted)
	}
	if diff := cmp.Diff(map[string]int64{"unknown": 5, "refused": 2}, sum.Verdicts); diff != "" {
		t.Error(diff)
	}
	want := []Row{{"a@x.test", Count{Total: 5, First: at.Add(time.Hour), Last: at.Add(2 * time.Hour),
		Network: "192.0.2.0/24", Verdict: "unknown"}}}
	if diff := cmp.Diff(want, sum.Addresses.Rows()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int64{"x.test": 5, "y.test": 2}, counts(sum.Domains)); diff != "" {
		t.Error(diff)
	}
	if err := s.DropRefusals(at.Add(2 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if sum, err = s.RefusalsSince(time.Time{}); err != nil || counts(sum.Addresses)["a@x.test"] != 3 {
		t.Errorf("after dropping two hours: %v, %v", counts(sum.Addresses), err)
	}
}

// TestTallyIsBounded: an attack with invented addresses displaces its own rows and not those of
// other clients, and the record of an hour stays small.
func TestTallyIsBounded(t *testing.T) {
	r := NewRefusals(start)
	refuse(r, 3, "jane.deo@x.test", "198.51.100.0/24", start)
	refuse(r, 1, "one.typo@x.test", "203.0.113.0/24", start)
	for i := range 100_000 {
		refuse(r, 1, fmt.Sprintf("guess-%d@x.test", i), fmt.Sprintf("192.0.%d.0/24", i%50), start.Add(time.Second))
		if len(r.Addresses.rows) > 2*keptAddresses {
			t.Fatalf("%d rows", len(r.Addresses.rows))
		}
	}
	value := r.encode()
	if len(value) > 60<<10 {
		t.Errorf("an hour takes %d bytes", len(value))
	}
	back, err := decodeRefusals(value)
	if err != nil {
		t.Fatal(err)
	}
	if back.Total != 100_004 || len(back.Addresses.rows) != keptAddresses {
		t.Errorf("total %d in %d rows", back.Total, len(back.Addresses.rows))
	}
	for text, want := range map[string]int64{"jane.deo@x.test": 3, "one.typo@x.test": 1} {
		if got := counts(back.Addresses)[text]; got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	if got := counts(back.Networks)["192.0.7.0/24"]; got != 2000 {
		t.Errorf("an attacking network was refused %d times, want 2000", got)
	}
}

// TestTallyOfOneNetwork: if all mail comes through one relay, the most frequent addresses stay.
func TestTallyOfOneNetwork(t *testing.T) {
	r := NewRefusals(start)
	for i := range 3 * keptAddresses {
		refuse(r, 1+i/keptAddresses, fmt.Sprintf("user-%d@x.test", i), "10.0.0.0/24", start)
	}
	r.encode()
	for _, row := range r.Addresses.Rows() {
		if row.Total != 3 {
			t.Fatalf("%s with %d was kept instead of one with 3", row.Text, row.Total)
		}
	}
}

func FuzzRefusals(f *testing.F) {
	r := NewRefusals(start)
	refuse(r, 2, "a@x.test", "192.0.2.0/24", start)
	f.Add(r.encode())
	f.Add([]byte{recordVersion, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRefusals(value)
		if err != nil {
			return
		}
		if _, err := decodeRefusals(r.encode()); err != nil {
			t.Fatalf("%x reads as what cannot be written: %v", value, err)
		}
	})
}
