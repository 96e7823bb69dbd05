package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// absenceAgrees returns an error if memory answers otherwise than Badger, or not at all.
func absenceAgrees(s *Store) error {
	if !s.config.ReadOnly && !s.census.absence.sound.Load() {
		return errors.New("absence is not answered from memory")
	}
	return s.scan([]byte(prefixAddress), false, func(kv pair) error {
		text := string(kv.key[len(prefixAddress):])
		record, err := decodeAddress(kv.value)
		if err != nil {
			return err
		}
		want := askBadger
		if record.open() && !s.config.ReadOnly {
			want = openToAll
		}
		if got, err := s.fromMemory(text); got != want || err != nil {
			return fmt.Errorf("%s: memory says %d, %v, want %d", text, got, err, want)
		}
		return nil
	})
}

func fromMemory(t *testing.T, s *Store, a string) memoryAnswer {
	t.Helper()
	got, err := s.fromMemory(a)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// brokenCommits commits as its mode says. A commit that fails may be in effect in part: Badger
// fails between two entries.
type brokenCommits struct {
	random *rand.Rand
	fail   bool
	s      *Store
}

func (b *brokenCommits) commit(txn *badger.Txn, ts uint64) error {
	if !b.fail || b.random.IntN(2) == 0 {
		return txn.CommitAt(ts, nil)
	}
	switch b.random.IntN(3) {
	case 0:
		return errDisk
	case 1:
		return errors.Join(txn.CommitAt(ts, nil), errDisk)
	}
	part := b.s.db.NewTransactionAt(math.MaxUint64, true)
	for i := range absenceUniverse {
		key := addressKey(absenceAddress(i))
		item, err := txn.Get(key)
		if err != nil || b.random.IntN(2) == 0 {
			continue
		}
		value, err := item.ValueCopy(nil)
		if err := errors.Join(err, part.Set(key, value)); err != nil {
			return err
		}
	}
	return errors.Join(part.CommitAt(ts, nil), errDisk)
}

const absenceUniverse = 40

func absenceAddress(i int) string { return fmt.Sprintf("a%d@x.test", i) }

// TestMemoryAgreesWithBadger: over random commits that succeed, fail, or fail in effect, in whole or
// in part, and over reopening, an address with a record never counts as never seen. Memory says that
// it is open if the record is, unless a commit may be in effect in part.
func TestMemoryAgreesWithBadger(t *testing.T) {
	answered := map[memoryAnswer]int{}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			b := &brokenCommits{random: random}
			b.s = open(t, Config{Dir: t.TempDir(), commit: b.commit})
			for range 60 {
				b.fail = random.IntN(2) == 0
				err := b.s.write(func(tx *tx) error { return randomUnit(tx, random) })
				if err != nil && !errors.Is(err, errDisk) && !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
				if errors.Is(err, ErrDamaged) || random.IntN(15) == 0 {
					b.fail = false
					b.s = reopen(t, b.s)
				}
				for i := range absenceUniverse {
					a := absenceAddress(i)
					_, err := b.s.db.NewTransactionAt(math.MaxUint64, false).Get(addressKey(a))
					memory := fromMemory(t, b.s, a)
					if memory == neverSeen && !errors.Is(err, badger.ErrKeyNotFound) {
						t.Fatalf("%s counts as never seen; Badger: %v", a, err)
					}
					answered[memory]++
				}
				// A commit that may be in effect in part leaves its rows until the store is reopened.
				if b.s.reopenDue.Load() || !b.s.census.absence.sound.Load() {
					continue
				}
				if err := absenceAgrees(b.s); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if answered[askBadger] == 0 || answered[neverSeen] == 0 || answered[openToAll] == 0 {
		t.Errorf("answers of memory: %v, want some of each", answered)
	}
}

// randomUnit makes some addresses known, removed, or forgotten, with their counts.
func randomUnit(tx *tx, random *rand.Rand) error {
	for range 1 + random.IntN(6) {
		a := absenceAddress(random.IntN(absenceUniverse))
		before, err := tx.address(a)
		if err != nil {
			return err
		}
		after, u := addressRecord{}, &unit{}
		switch kind := random.IntN(3); {
		case kind == 0 && !before.known(): // the tombstone has expired
			u.delete(addressKey(a))
		case kind == 1 && before.known():
			after.removed, after.pass = start, 1
			u.set(addressKey(a), after.encode())
		default:
			after.set(owner{dir: 1, guid: GUID{byte(random.Uint32())},
				ownerFlags: ownerFlags{internalOnly: random.IntN(2) == 0}})
			u.set(addressKey(a), after.encode())
		}
		u.delta.address(a, &before, &after)
		if err := tx.add(u); err != nil {
			return err
		}
	}
	return nil
}

// TestAbsenceNeedsTheTotals: if the census was read from other than the known addresses that the
// totals count, only Badger answers.
func TestAbsenceNeedsTheTotals(t *testing.T) {
	log := &strings.Builder{}
	s := open(t, Config{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(log, nil))})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"))
	txn := s.db.NewTransactionAt(math.MaxUint64, true)
	s.writer.ts++
	changed := ledger{} // the sum fits, which the totals do not
	s.census.record(changed, addressKey("b@x.test"), nil)
	s.census.sum = s.census.sumAfter(changed, s.writer.ts)
	s.census.removeDeleted(changed)
	if err := errors.Join(txn.Delete(addressKey("b@x.test")), txn.Set([]byte(keyCommit), commitValue(s.census.sum)),
		txn.CommitAt(s.writer.ts, nil)); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s)
	for _, a := range []string{"a@x.test", "b@x.test", "never@x.test"} {
		if got := fromMemory(t, s, a); got != askBadger {
			t.Errorf("memory answers %d for %s", got, a)
		}
	}
	if got, err := s.Lookup(mustParse(t, "a@x.test")); err != nil || !got.Known {
		t.Errorf("lookup: %+v, %v", got, err)
	}
	if !strings.Contains(log.String(), "it differs from the totals") {
		t.Errorf("log: %s", log)
	}
}

// TestVerifyFindsAMissingRow: a known address without a row is not found, until a verification
// notices it.
func TestVerifyFindsAMissingRow(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	s.census.remove(s.census.hash(addressKey("a@x.test")), nil)
	if got := fromMemory(t, s, "a@x.test"); got != neverSeen {
		t.Fatalf("memory answers %d", got)
	}
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup(mustParse(t, "a@x.test")); err != nil || !got.Known {
		t.Errorf("lookup after a verification: %+v, %v", got, err)
	}
}

// TestVerifyFindsAWrongRow: a row that is open without reason accepts a removed address until a
// verification notices it.
func TestVerifyFindsAWrongRow(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	pass(t, s, "corp", Full, start, "", object(t, 2, "b@x.test"))
	row, _ := s.census.row(addressKey("a@x.test"))
	row.low |= openBit
	s.census.set(row)
	if got, err := s.Lookup(mustParse(t, "a@x.test")); err != nil || !got.Known {
		t.Fatalf("lookup of the row: %+v, %v", got, err)
	}
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup(mustParse(t, "a@x.test")); err != nil || got.Known {
		t.Errorf("lookup after a verification: %+v, %v", got, err)
	}
}

// TestAbsenceOfAClosedStore: a closed store answers nothing.
func TestAbsenceOfAClosedStore(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(mustParse(t, "never@x.test")); !errors.Is(err, ErrClosed) {
		t.Errorf("lookup: %v", err)
	}
}

// TestAbsenceReadsNothing: the lookup of an address that was never seen allocates nothing.
func TestAbsenceReadsNothing(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	never := mustParse(t, strings.Repeat("n", 500)+"@x.test")
	if n := testing.AllocsPerRun(100, func() {
		if got, err := s.Lookup(never); err != nil || got.Known {
			t.Fatal(got, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
