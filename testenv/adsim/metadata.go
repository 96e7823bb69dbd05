package adsim

import (
	"encoding/binary"
)

// deletion is the replication metadata of isDeleted: of the last deletion of an object, or
// of its return. The zero value means that it was never deleted.
type deletion struct {
	writes     uint32
	at         int64 // Unix time, by the clock of the controller that wrote it
	invocation GUID  // of that controller
	usn        uint64
}

// writeDeletion gives the metadata of isDeleted, written here under the next USN.
func (d *Directory) writeDeletion(before deletion) deletion {
	return deletion{before.writes + 1, d.config.Clock().Unix(), d.invocation, d.usn + 1}
}

// The numbers of attributes in replication metadata (MS-DRSR 5.16.4).
const (
	attrObjectClass = 0x0
	attrIsDeleted   = 0x20030
)

// unixEpoch is 1970-01-01 in seconds since 1601-01-01, as metadata count.
const unixEpoch = 11644473600

// metaData is the value of replPropertyMetaData: version 1, the number of entries, and the
// entries of 48 bytes each, in little-endian order. Of all that the original has in it, it
// has objectClass and, if the object was ever deleted, isDeleted.
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

// SetOriginTimes chooses between the whenChanged of Windows and that of Samba: see
// [DirectoryConfig]. It holds for what is replicated here from now on.
func (d *Directory) SetOriginTimes(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config.OriginTimes = on
}
