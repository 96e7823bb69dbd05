package store

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"rcpt-milter/internal/clock"
)

// The number of rows of each kind in the record of an hour. An hour takes about 50 KB at most,
// whatever clients ask for in it.
const (
	keptAddresses = 500
	keptNetworks  = 250
	keptDomains   = 100
)

// Refusal is one recipient that was refused, or would have been.
type Refusal struct {
	Time        time.Time
	Address     string // perhaps hashed; empty means that it could not be parsed
	Domain      string
	Network     string // of the client; empty means unknown
	Verdict     string
	WouldRefuse bool // report mode accepted it
	WouldLimit  bool // the harvest limit, in mode report, would have answered
}

// Refusals counts what was refused in some time. The counters are exact; the tallies have the
// most frequent texts.
type Refusals struct {
	From        time.Time // beginning of an hour, in UTC
	Total       int64
	WouldRefuse int64            // of Total: accepted in report mode
	Unlisted    int64            // of Total: refusals that came too fast to be recorded and are in no tally
	Verdicts    map[string]int64 // and, under wouldLimit, how many the harvest limit would have answered

	Addresses, Domains, Networks *Tally
}

// wouldLimit takes the place of a verdict in the record, which has kept its format. An earlier
// version of the program shows it as one.
const wouldLimit = "would_limit"

// WouldLimit returns how many of Total the harvest limit would have answered.
func (r *Refusals) WouldLimit() int64 { return r.Verdicts[wouldLimit] }

// ByVerdict returns the numbers by verdict.
func (r *Refusals) ByVerdict() map[string]int64 {
	all := maps.Clone(r.Verdicts)
	delete(all, wouldLimit)
	return all
}

// NewRefusals returns an empty record of the hour that contains a time.
func NewRefusals(at time.Time) *Refusals {
	return &Refusals{From: at.UTC().Truncate(time.Hour), Verdicts: map[string]int64{},
		Addresses: newTally(keptAddresses), Domains: newTally(keptDomains), Networks: newTally(keptNetworks)}
}

// Add counts one refusal.
func (r *Refusals) Add(f Refusal) {
	c := Count{Total: 1, First: f.Time, Last: f.Time, Network: f.Network, Verdict: f.Verdict}
	if f.WouldRefuse {
		c.WouldRefuse = 1
	}
	r.Total += c.Total
	r.WouldRefuse += c.WouldRefuse
	r.Verdicts[f.Verdict]++
	if f.WouldLimit {
		r.Verdicts[wouldLimit]++
	}
	r.Addresses.add(f.Address, c)
	r.Domains.add(f.Domain, c)
	r.Networks.add(f.Network, c)
}

// AddUnlisted counts refusals without details.
func (r *Refusals) AddUnlisted(refused, wouldRefuse int64) {
	r.Total += refused + wouldRefuse
	r.WouldRefuse += wouldRefuse
	r.Unlisted += refused + wouldRefuse
}

// Merge adds the counts of another record.
func (r *Refusals) Merge(other *Refusals) {
	if other.From.Before(r.From) {
		r.From = other.From
	}
	r.Total += other.Total
	r.WouldRefuse += other.WouldRefuse
	r.Unlisted += other.Unlisted
	for verdict, n := range other.Verdicts {
		r.Verdicts[verdict] += n
	}
	r.Addresses.merge(other.Addresses)
	r.Domains.merge(other.Domains)
	r.Networks.merge(other.Networks)
}

func (r *Refusals) encode() []byte {
	e := newEncoder()
	e.time(r.From)
	e.uint(uint64(r.Total))
	e.uint(uint64(r.WouldRefuse))
	e.uint(uint64(r.Unlisted))
	e.uint(uint64(len(r.Verdicts)))
	for _, verdict := range slices.Sorted(maps.Keys(r.Verdicts)) {
		e.string(verdict)
		e.uint(uint64(r.Verdicts[verdict]))
	}
	e.tally(r.Addresses)
	e.tally(r.Domains)
	e.tally(r.Networks)
	return e
}

func decodeRefusals(value []byte) (*Refusals, error) {
	d := newDecoder(value)
	r := &Refusals{From: d.time(), Total: int64(d.uint()), WouldRefuse: int64(d.uint()), Unlisted: int64(d.uint()),
		Verdicts: map[string]int64{}}
	for range d.count() {
		verdict := d.string()
		r.Verdicts[verdict] = int64(d.uint())
	}
	r.Addresses, r.Domains, r.Networks = d.tally(keptAddresses), d.tally(keptDomains), d.tally(keptNetworks)
	return r, d.done()
}

// refusalsKey returns the key of the hour that contains a time.
func refusalsKey(at time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefixRefusals), uint64(max(0, at.Unix()/3600)))
}

// PutRefusals replaces the record of an hour.
func (s *Store) PutRefusals(r *Refusals) error {
	return s.write(func(t *tx) error { return t.set(refusalsKey(r.From), r.encode()) })
}

// RefusalsOf returns the record of the hour that contains a time. It is empty if nothing was
// refused.
func (s *Store) RefusalsOf(at time.Time) (*Refusals, error) {
	empty := NewRefusals(at)
	if err := s.beginRead(); err != nil {
		return empty, err
	}
	defer s.endRead()
	value, err := s.get(refusalsKey(empty.From))
	if err != nil || value == nil {
		return empty, err
	}
	r, err := decodeRefusals(value)
	if err != nil {
		return empty, s.unreadable(prefixRefusals+empty.From.Format(time.RFC3339), err)
	}
	return r, nil
}

// RefusalsSince adds up the records from the hour that contains a time up to now.
func (s *Store) RefusalsSince(since time.Time) (*Refusals, error) {
	sum := NewRefusals(since)
	for _, t := range []*Tally{sum.Addresses, sum.Domains, sum.Networks} {
		t.size *= sumFactor
	}
	until := refusalsKey(s.config.Now().Add(clock.StoredSlack))
	keys, err := s.refusalKeys(func(key []byte) bool {
		return bytes.Compare(key, refusalsKey(since)) >= 0 && bytes.Compare(key, until) <= 0
	})
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		hour, err := s.RefusalsOf(time.Unix(int64(binary.BigEndian.Uint64(key[len(prefixRefusals):]))*3600, 0))
		if err != nil {
			return nil, err
		}
		sum.Merge(hour)
	}
	return sum, nil
}

// sumFactor is how many times more rows the sum of several hours has than one hour.
const sumFactor = 20

// DropRefusals deletes the hours before the one that contains a time.
func (s *Store) DropRefusals(before time.Time) error {
	keys, err := s.refusalKeys(func(key []byte) bool { return bytes.Compare(key, refusalsKey(before)) < 0 })
	if err != nil || len(keys) == 0 {
		return err
	}
	return s.write(func(t *tx) error {
		for _, key := range keys {
			if err := t.delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// refusalKeys lists the keys of existing records for which wanted returns true.
func (s *Store) refusalKeys(wanted func(key []byte) bool) (keys [][]byte, err error) {
	if err := s.beginRead(); err != nil {
		return nil, err
	}
	defer s.endRead()
	err = s.scan([]byte(prefixRefusals), true, func(kv pair) error {
		if len(kv.key) == len(refusalsKey(time.Time{})) && wanted(kv.key) {
			keys = append(keys, kv.key)
		}
		return nil
	})
	return keys, err
}
