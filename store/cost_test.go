package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// contacts returns objects with one address each, all in different domains.
func contacts(t testing.TB, from, n int) []Object {
	var objects []Object
	for i := from; i < from+n; i++ {
		o := object(t, 0, fmt.Sprintf("someone@customer-%06d.example.com", i))
		o.GUID = GUID{3, byte(i >> 16), byte(i >> 8), byte(i)}
		objects = append(objects, o)
	}
	return objects
}

// used returns how many bytes the tables of a store and the used parts of its logs take. Log
// files are larger than their content.
func used(t testing.TB, s *Store) (n int64) {
	t.Helper()
	for _, pattern := range []string{"*.mem", "*.vlog", "*.sst"} {
		names, err := filepath.Glob(filepath.Join(s.config.Dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			n += int64(len(bytes.TrimRight(content, "\x00")))
		}
	}
	return n
}

// TestDiskWrittenWithManyDomains: the change of one address writes only that change, whatever
// the number of domains and databases.
func TestDiskWrittenWithManyDomains(t *testing.T) {
	const changes, limit = 200, 2 << 20
	domains := 50_000
	if testing.Short() {
		domains = 5_000
	}
	s := open(t, Config{Dir: t.TempDir()})
	p, err := s.Begin("corp", Full, Origin{Controller: "dc1.corp.example", Started: start})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < domains; n += 1000 {
		if _, err := p.Apply(contacts(t, n, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: start}); err != nil {
		t.Fatal(err)
	}
	for i := range 500 { // each database was read once
		once := Origin{Controller: "dc1.corp.example", Database: fmt.Sprint(i), Started: start}
		p, err := s.Begin("corp", Incremental, once)
		if err != nil {
			t.Fatal(err)
		}
		p.Abort()
	}
	s = reopen(t, s)
	before := used(t, s)
	for i := range changes {
		p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: start})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Apply([]Object{object(t, 9, fmt.Sprintf("n%d@corp.example", i))}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: start}); err != nil {
			t.Fatal(err)
		}
	}
	grown := used(t, s) - before
	t.Logf("%d changes of one address with %d domains write %d KiB", changes, domains, grown>>10)
	if grown > limit {
		t.Errorf("%d changes of one address with %d domains write %d bytes, want at most %d", changes, domains, grown,
			limit)
	}
	if err := s.Recount(); err != nil {
		t.Error(err)
	}
	if got := s.Totals(); len(got.Domains) != domains+1 || got.Domains["corp.example"] != 1 {
		t.Errorf("%d domains, %d addresses in corp.example", len(got.Domains), got.Domains["corp.example"])
	}
}

// holding returns a store that holds the removals of n objects with two addresses each.
func holding(b testing.TB, n int) *Store {
	s, _ := filled(b, n)
	p, err := s.Begin("corp", Full, Origin{Started: start})
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Sweep(); err != nil {
		b.Fatal(err)
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: start, Hold: "held"}); err != nil {
		b.Fatal(err)
	}
	return s
}

// emptyPass does what a pass without changes does, including the guard's queries.
func emptyPass(t testing.TB, s *Store, held int) {
	p, err := s.Begin("corp", Incremental, Origin{Started: start, Lag: 3 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	pending, err := p.Pending()
	if err != nil || pending.Owned != held || pending.Addresses() != held {
		t.Fatalf("pending: %+v, %v", pending, err)
	}
	if _, err := s.RemovedBetween("corp", start, s.config.Now()); err != nil {
		t.Fatal(err)
	}
	if lost, err := p.WouldLose(mustParse(t, "u0@corp.example")); err != nil || lost != (held > 0) {
		t.Fatal(lost, err)
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: start, Hold: "held"}); err != nil {
		t.Fatal(err)
	}
}

// TestEmptyPassReadsNoMarks: the cost of a pass without changes does not depend on the number of
// held removals.
func TestEmptyPassReadsNoMarks(t *testing.T) {
	allocations := func(objects int) float64 {
		s := holding(t, objects)
		rows, err := s.readChunk([]byte(prefixPass), []byte(prefixPass), true)
		if err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(10, func() { emptyPass(t, s, 2*objects) })
		after, err := s.readChunk([]byte(prefixPass), []byte(prefixPass), true)
		if err != nil || len(after) != len(rows) {
			t.Errorf("passes that still hold the same left %d rows (%v)", len(after)-len(rows), err)
		}
		return n
	}
	few, many := allocations(10), allocations(5000)
	t.Logf("allocations of a pass: %.0f with 20 held, %.0f with 10,000", few, many)
	if many > 3*few+1000 {
		t.Errorf("a pass makes %.0f allocations with 20 held, and %.0f with 10,000", few, many)
	}
}

func BenchmarkEmptyPass(b *testing.B) {
	for _, objects := range []int{0, 50_000, 200_000} {
		b.Run(fmt.Sprintf("held=%d", 2*objects), func(b *testing.B) {
			s := holding(b, max(objects, 1))
			if objects == 0 {
				if _, err := s.Discard("corp", start); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				emptyPass(b, s, 2*objects)
			}
		})
	}
}
