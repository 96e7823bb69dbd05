package adsim

import (
	"encoding/binary"
)

// deletion is the replication metadata of isDeleted, from the last deletion or undeletion of an
// object. The zero value means that it was never deleted.
type deletion struct {
	writes     uint32
	at         int64 // Unix time, by the clock of the controller that wrote it
	invocation GUID  // of that controller
	usn        uint64
}

// writeDeletion returns the metadata of isDeleted for a write under the next USN.
func (d *Directory) writeDeletion(before deletion) deletion {
	return deletion{before.writes + 1, d.config.Clock().Unix(), d.invocation, d.usn + 1}
}

// The numbers of attributes in replication metadata (MS-DRSR 5.16.4).
const (
	attrObjectClass = 0x0
	attrIsDeleted   = 0x20030
)

// unixEpoch is 1970-01-01 in seconds since 1601-01-01, the epoch of metadata.
const unixEpoch = 11644473600

// metaData returns the value of replPropertyMetaData: version 1, the number of entries, and entries
// of 48 bytes each, little-endian. It holds only objectClass and, if the object was ever deleted,
// isDeleted.
func (e *entry) metaData() []string {
	entries := []struct {
		attribute uint32
		of        deletion
	}{{attrObjectClass, deletion{writes: 1, at: e.createdAt, usn: e.created}}}
	if e.deletion.writes > 0 {
		entries = append(entries, entries[0])
		entries[1].attribute, entries[1].of = attrIsDeleted, e.deletion
	}
	le := binary.LittleEndian
	value := le.AppendUint64(nil, 1)
	value = le.AppendUint64(value, uint64(len(entries)))
	for _, m := range entries {
		value = le.AppendUint32(value, m.attribute)
		value = le.AppendUint32(value, m.of.writes)
		value = le.AppendUint64(value, uint64(m.of.at+unixEpoch))
		value = append(value, m.of.invocation[:]...)
		value = le.AppendUint64(value, m.of.usn)
		value = le.AppendUint64(value, e.usn)
	}
	return []string{string(value)}
}

// SetOriginTimes selects whenChanged of Samba (true) or Windows for later replication: see
// [DirectoryConfig].
func (d *Directory) SetOriginTimes(on bool) {
	d.lock()
	defer d.mu.Unlock()
	d.config.OriginTimes = on
}
