package store

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// recordVersion begins every value and distinguishes it from later versions of the same kind of
// record.
const recordVersion = 1

// errRecord means that this version did not write the stored value: it is damaged or has a newer
// format.
var errRecord = errors.New("unreadable record")

// The types of fields are here. The layouts of records are in record.go, directory.go and the files of the other
// record types.

// An encoder appends fields: varints, length-prefixed strings, times in microseconds.
type encoder []byte

func newEncoder() encoder { return encoder{recordVersion} }

func (e *encoder) uint(v uint64)   { *e = binary.AppendUvarint(*e, v) }
func (e *encoder) string(v string) { e.uint(uint64(len(v))); *e = append(*e, v...) }
func (e *encoder) raw(v []byte)    { *e = append(*e, v...) }

func (e *encoder) bool(v bool) {
	var b byte
	if v {
		b = 1
	}
	*e = append(*e, b)
}

// time writes 0 for the zero time. All other times are at least one microsecond after 1970.
func (e *encoder) time(v time.Time) {
	if v.IsZero() {
		e.uint(0)
		return
	}
	e.uint(uint64(max(v.UnixMicro(), 1)))
}

// A decoder reads the fields back in the same order. After the first field that cannot be read,
// all further fields are zero and err is set.
type decoder struct {
	rest []byte
	err  error
}

func newDecoder(value []byte) *decoder {
	if len(value) == 0 || value[0] != recordVersion {
		return &decoder{err: errRecord}
	}
	return &decoder{rest: value[1:]}
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) raw(n uint64) []byte {
	if d.err != nil || uint64(len(d.rest)) < n {
		d.fail()
		return nil
	}
	v := d.rest[:n]
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) string() string { return string(d.raw(d.uint())) }

func (d *decoder) bool() bool {
	b := d.raw(1)
	return len(b) == 1 && b[0] != 0
}

func (d *decoder) time() time.Time {
	v := d.uint()
	if v == 0 {
		return time.Time{}
	}
	if v > math.MaxInt64 { // would be a time before 1970, which time never writes
		d.fail()
		return time.Time{}
	}
	return time.UnixMicro(int64(v)).UTC()
}

// count reads the length of a list whose entries take at least one byte each. A damaged length
// cannot request more memory than the size of the value.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errRecord
	}
	d.rest = nil
}

// done returns the first error, or errRecord if bytes are left over.
func (d *decoder) done() error {
	if d.err == nil && len(d.rest) > 0 {
		d.err = errRecord
	}
	return d.err
}
