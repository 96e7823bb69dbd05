package store

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// How many rows of each kind the record of an hour keeps. An hour takes about 50 KB at
// most, whatever is asked of the daemon in it.
const (
	keptAddresses = 500
	keptNetworks  = 250
	keptDomains   = 100
)

// Refusal is one recipient that was refused, or would have been.
type Refusal struct {
	Time        time.Time
	Address     string // as it is to be kept; empty: not readable as one
	Domain      string
	Network     string // of the client; empty: not known
	Verdict     string
	WouldRefuse bool // mode report kept it from being refused
}

// Refusals are what was refused in some time. The numbers are exact, the tallies keep
// the most frequent.
type Refusals struct {
	From        time.Time // begins with an hour, in UTC
	Total       int64
	WouldRefuse int64 // of Total: what mode report kept from being refused
	Unlisted    int64 // of Total: what came too fast to be looked at, and is in no tally
	Verdicts    map[string]int64

	Addresses, Domains, Networks *Tally
}

// NewRefusals makes an empty record of the hour in which a time falls.
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
	r.Addresses.add(f.Address, c)
	r.Domains.add(f.Domain, c)
	r.Networks.add(f.Network, c)
}

// Miss counts refusals of which nothing else is known.
func (r *Refusals) AddUnlisted(refused, wouldRefuse int64) {
	r.Total += refused + wouldRefuse
	r.WouldRefuse += wouldRefuse
	r.Unlisted += refused + wouldRefuse
}

// Merge adds what another record holds.
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

// refusalsKey is the key of the hour in which a time falls.
func refusalsKey(at time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefixRefusals), uint64(max(0, at.Unix()/3600)))
}

// PutRefusals replaces the record of an hour.
func (s *Store) PutRefusals(r *Refusals) error {
	return s.write(func(t *tx) error { return t.set(refusalsKey(r.From), r.encode()) })
}

// RefusalsOf gives the record of the hour in which a time falls; an empty one where
// nothing was refused.
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

// RefusalsSince adds up the records from the hour on in which a time falls, up to now.
func (s *Store) RefusalsSince(since time.Time) (*Refusals, error) {
	sum := NewRefusals(since)
	for _, t := range []*Tally{sum.Addresses, sum.Domains, sum.Networks} {
		t.size *= sumFactor
	}
	until := refusalsKey(s.config.Now().Add(clockSlack))
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

// sumFactor is how many times more rows than an hour a sum of hours keeps.
const sumFactor = 20

// DropRefusals forgets the hours before the one in which a time falls.
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

// refusalKeys lists the records that there are, as far as they are wanted.
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
