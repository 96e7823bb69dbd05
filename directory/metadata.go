package directory

import (
	"encoding/binary"
	"time"
)

// metaDataAttribute holds, for each attribute of an object, the time and place of its last
// write. A deleted object keeps it (MS-ADTS 3.1.1.5.5.6.1).
const (
	metaDataAttribute = "replPropertyMetaData"
	metaDataKey       = "replpropertymetadata"
)

// attrIsDeleted is the number of isDeleted (1.2.840.113556.1.2.48) in metadata. It combines the
// prefix 1.2.840.113556.1.2, the same in every forest, and the rest (MS-DRSR 5.16.4).
const attrIsDeleted = 0x20030

const (
	metaDataHeader = 16 // bytes: version, reserved, number of entries, reserved
	metaDataEntry  = 48 // bytes: attribute, version, time, invocationId, USN, local USN

	// epoch1601 is 1970-01-01 in seconds since 1601-01-01, the epoch of metadata.
	epoch1601 = 11644473600
)

// parseOrigin returns the origin of the last write of an attribute from metadata. The zero Origin
// means that they do not hold it, or are unreadable. All numbers are little-endian.
func parseOrigin(blob []byte, attribute uint32) Origin {
	le := binary.LittleEndian
	if len(blob) < metaDataHeader || le.Uint32(blob) != 1 {
		return Origin{}
	}
	count, entries := uint64(le.Uint32(blob[8:])), blob[metaDataHeader:]
	if uint64(len(entries)) < count*metaDataEntry {
		return Origin{}
	}
	for ; count > 0; count, entries = count-1, entries[metaDataEntry:] {
		seconds := le.Uint64(entries[8:])
		if le.Uint32(entries) != attribute || seconds <= epoch1601 || seconds > 2*epoch1601 {
			continue
		}
		return Origin{Time: time.Unix(int64(seconds)-epoch1601, 0).UTC(),
			Database: GUID(entries[16:32]), USN: le.Uint64(entries[32:])}
	}
	return Origin{}
}
