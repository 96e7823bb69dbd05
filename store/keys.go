package store

import (
	"encoding/binary"
	"strings"
	"time"

	"rcpt-milter/address"
)

// The key space. Integers are big-endian, which sorts keys by number.
//
//	m/format               format and normalisation version
//	m/totals               counters and digest
//	n/<domain>             addresses with an owner in the domain
//	t/<dir>                counts and digests of a directory
//	y/<dir><domain>        due marks of a directory in the domain, and addresses that are lost with them
//	m/pruned               the time from which on the journal is complete
//	m/secret               a random key, created on first use
//	m/commit               a sum over the newest versions of all tracked keys; part of each commit
//	m/doubt                directories that have to be read as far as before, until a miss counts
//	d/<name>               directory: id, fingerprint of its rules, last good passes
//	c/<dir>                the live cursor of a directory
//	o/<dir><guid>          the addresses of an object, or which parts it has
//	o/<dir><guid><part>    some addresses of an object that has many: see parts.go
//	a/<address>            the owners of an address, or when its last owner went
//	u/<dir><guid>          values of the object that need correction
//	e/<dir>                the feed of a directory: on if there is a key; the place of its publisher
//	f/<dir><class><guid>   the object has changes that are not published: the outbox
//	h/<dir><state><pass><guid>  the object has marks of the pass, which are due or wait
//	w/<dir><time><guid>    the object has marks that wait for the time
//	q/<dir><origin>        a database that the directory was read from
//	k/<dir>                the domains whose removals are held, if they are many
//	r/<dir>                a decided pass: the redo record
//	p/<pass>               what a pass did
//	j/<pass><seq>          journal: one change of one address
//	l/<address>\0<pass>    journal by address: its rows in that pass
//	x/<hour>               refusals of an hour: counters and the most frequent texts
const (
	keyFormat       = "m/format"
	keyTotals       = "m/totals"
	keyPruned       = "m/pruned"
	keySecret       = "m/secret"
	keyCommit       = "m/commit"
	keyDoubt        = "m/doubt"
	prefixDirectory = "d/"
	prefixCursor    = "c/"
	prefixObject    = "o/"
	prefixAddress   = "a/"
	prefixUnread    = "u/"
	prefixMarked    = "h/"
	prefixWaiting   = "w/"
	prefixFeed      = "e/"
	prefixOutbox    = "f/"
	prefixOrigin    = "q/"
	prefixDomain    = "n/"
	prefixCounts    = "t/"
	prefixLeaving   = "y/"
	prefixHeld      = "k/"
	prefixRedo      = "r/"
	prefixPass      = "p/"
	prefixJournal   = "j/"
	prefixByAddress = "l/"
	prefixRefusals  = "x/"
)

// A dirID replaces the name of a directory in keys. It is never reused.
type dirID uint32

const dirIDSize = 4

func dirKey(prefix string, dir dirID) []byte {
	return binary.BigEndian.AppendUint32([]byte(prefix), uint32(dir))
}

func objectKey(dir dirID, guid GUID) []byte { return append(dirKey(prefixObject, dir), guid[:]...) }

// A markState is the part of an h/ key that separates due marks from waiting ones.
type markState byte

const (
	markDue     markState = 1 // the next committed pass may release it
	markWaiting markState = 2 // not before its time has come
)

// markedPrefix returns the beginning of the h/ keys of a state.
func markedPrefix(dir dirID, state markState) []byte {
	return append(dirKey(prefixMarked, dir), byte(state))
}

func markedKey(dir dirID, state markState, pass uint64, guid GUID) []byte {
	return append(binary.BigEndian.AppendUint64(markedPrefix(dir, state), pass), guid[:]...)
}

// waitingKey sorts by the time until which a mark waits, in microseconds.
func waitingKey(dir dirID, until time.Time, guid GUID) []byte {
	key := binary.BigEndian.AppendUint64(dirKey(prefixWaiting, dir), uint64(max(until.UnixMicro(), 0)))
	return append(key, guid[:]...)
}

// outboxPrefix returns the beginning of the f/ keys of a class.
func outboxPrefix(dir dirID, class outboxClass) []byte {
	return append(dirKey(prefixOutbox, dir), byte(class))
}

func outboxKey(dir dirID, class outboxClass, guid GUID) []byte {
	return append(outboxPrefix(dir, class), guid[:]...)
}

func originKey(dir dirID, id originID) []byte {
	return binary.BigEndian.AppendUint32(dirKey(prefixOrigin, dir), uint32(id))
}

func domainKey(domain string) []byte { return append([]byte(prefixDomain), domain...) }

func leavingKey(dir dirID, domain string) []byte {
	return append(dirKey(prefixLeaving, dir), domain...)
}

// dirOf returns the directory in an object, mark, count, origin or redo key.
func dirOf(key []byte) dirID { return dirID(binary.BigEndian.Uint32(key[len(prefixObject):])) }

// guidOf returns the GUID at the end of an object or mark key.
func guidOf(key []byte) (g GUID) {
	copy(g[:], key[len(key)-len(g):])
	return g
}

func addressKey(a string) []byte { return append([]byte(prefixAddress), a...) }

func passKey(pass uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefixPass), pass)
}

func journalKey(pass uint64, seq uint32) []byte {
	key := binary.BigEndian.AppendUint64([]byte(prefixJournal), pass)
	return binary.BigEndian.AppendUint32(key, seq)
}

func byAddressKey(a string, pass uint64) []byte {
	key := append([]byte(prefixByAddress), a...)
	return binary.BigEndian.AppendUint64(append(key, 0), pass)
}

// domainOf returns the domain of a canonical address.
func domainOf(a string) string { return a[strings.LastIndexByte(a, '@')+1:] }

// parse turns stored text back into an address. The text is canonical already. The result is the
// zero address only if the canonical form has changed since it was stored.
func parse(a string) address.Address {
	parsed, _ := address.Parse(a)
	return parsed
}
