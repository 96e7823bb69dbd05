package store

import (
	"hash/fnv"
	"maps"
)

// domainCounts is the number of addresses in each domain. It is never changed in place: a change
// copies one shard for each domain that it changes. The nil value has no domain.
type domainCounts []map[string]int64

// domainShards keeps the copies small: a change of one address among 50,000 domains copies 200
// entries.
const domainShards = 256

func shardOf(domain string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(domain))
	return int(h.Sum32() % domainShards)
}

// of returns the count of one domain.
func (c domainCounts) of(domain string) int64 {
	if c == nil {
		return 0
	}
	return c[shardOf(domain)][domain]
}

// after returns the counts with changes added. A domain without addresses has no entry.
func (c domainCounts) after(changes map[string]int64) domainCounts {
	if len(changes) == 0 {
		return c
	}
	next := make(domainCounts, domainShards)
	copy(next, c)
	copied := [domainShards]bool{}
	for domain, n := range changes {
		i := shardOf(domain)
		if !copied[i] {
			copied[i] = true
			if next[i] = maps.Clone(next[i]); next[i] == nil {
				next[i] = map[string]int64{}
			}
		}
		if next[i][domain] += n; next[i][domain] == 0 {
			delete(next[i], domain)
		}
	}
	return next
}

func (c domainCounts) len() int {
	n := 0
	for _, shard := range c {
		n += len(shard)
	}
	return n
}

func (c domainCounts) equal(o domainCounts) bool {
	if c == nil || o == nil {
		return c.len() == o.len()
	}
	for i := range c {
		if !maps.Equal(c[i], o[i]) {
			return false
		}
	}
	return true
}

// clone returns the counts as one map.
func (c domainCounts) clone() map[string]int64 {
	m := make(map[string]int64, c.len())
	c.all(func(domain string, n int64) { m[domain] = n })
	return m
}

// all visits every domain.
func (c domainCounts) all(visit func(domain string, n int64)) {
	for _, shard := range c {
		for domain, n := range shard {
			visit(domain, n)
		}
	}
}
