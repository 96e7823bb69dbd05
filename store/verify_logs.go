package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// verifyLogs checks the logs of memory tables and of large values, which Badger replays at the
// next opening. It checks each while no commit writes to it. Badger treats the first entry that
// it cannot read as the end of a log.
func (s *Store) verifyLogs() error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		logs, err := filepath.Glob(filepath.Join(s.config.Dir, pattern))
		if err != nil {
			return err
		}
		for _, log := range logs {
			s.writer.Lock()
			err := verifyLog(log)
			s.writer.Unlock()
			if err != nil {
				return s.fileError(err)
			}
		}
	}
	return nil
}

// The layout of a log, see Badger's memtable.go: a file header, then entries of header, key,
// value and checksum. What is not written yet is zero.
const (
	logHeader  = 20
	logMaxKey  = 1 << 16
	logMaxSize = 2 * logFileSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errLog means that a log has content other than entries and zeros.
var errLog = errors.New("checksum mismatch")

// verifyLog checks one log. A log that is gone was written to a table; Badger truncates it
// before removing it.
func verifyLog(path string) error {
	for {
		size, err := checkLog(path)
		if !errors.Is(err, errLog) {
			return err
		}
		if info, gone := os.Stat(path); gone == nil && info.Size() == size {
			return damagedFile{fmt.Errorf("log %s: %w", filepath.Base(path), err)}
		}
	}
}

// checkLog reads one log once and returns its size at the beginning.
func checkLog(path string) (int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	in := &logReader{in: bufio.NewReaderSize(f, 1<<16)}
	if _, err := in.in.Discard(logHeader); err != nil {
		return info.Size(), nil // not started yet
	}
	for {
		more, err := in.entry()
		if err != nil || !more {
			return info.Size(), err
		}
	}
}

// trimLogs cuts off what follows the last complete transaction in the logs of memory tables, as
// Badger does when it opens them to write. It needs no disk space.
func trimLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, log := range logs {
		end, err := endOfLog(log)
		if err == nil {
			err = os.Truncate(log, end)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entryInTxn is the bit of an entry's first byte that says that the transaction goes on. See
// Badger's value.go.
const entryInTxn = 1 << 6

// endOfLog returns where the last complete transaction of a log ends.
func endOfLog(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	in := &logReader{in: bufio.NewReaderSize(f, 1<<16)}
	if _, err := in.in.Discard(logHeader); err != nil {
		return 0, nil // nothing was written
	}
	end := int64(logHeader)
	for at := end; ; {
		before := in.read
		more, err := in.entry()
		if err != nil || !more {
			return end, nil // what Badger cannot read ends the log
		}
		at += in.read - before
		if in.meta&entryInTxn == 0 {
			end = at
		}
	}
}

// logReader reads entries and computes the checksum of each.
type logReader struct {
	in   *bufio.Reader
	sum  uint32
	read int64 // bytes of all entries
	meta byte  // of the last entry
}

func (r *logReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	r.read++
	r.sum = crc32.Update(r.sum, castagnoli, []byte{b})
	return b, err
}

// entry checks one entry. It returns false at the zeros.
func (r *logReader) entry() (bool, error) {
	begin, err := r.in.Peek(4)
	if err == io.EOF || err == nil && binary.BigEndian.Uint32(begin) == 0 {
		return false, r.zeros()
	}
	r.sum = 0
	var fields [3]uint64 // key and value length, expiry
	for i := range 2 {   // meta
		b, err := r.ReadByte()
		if err != nil {
			return false, errLog
		}
		if i == 0 {
			r.meta = b
		}
	}
	for i := range fields {
		if fields[i], err = binary.ReadUvarint(r); err != nil {
			return false, errLog
		}
	}
	if fields[0] > logMaxKey || fields[1] > logMaxSize {
		return false, errLog
	}
	body := make([]byte, fields[0]+fields[1]+crc32.Size)
	if _, err := io.ReadFull(r.in, body); err != nil {
		return false, errLog
	}
	r.read += int64(len(body))
	end := len(body) - crc32.Size
	if crc32.Update(r.sum, castagnoli, body[:end]) != binary.BigEndian.Uint32(body[end:]) {
		return false, errLog
	}
	return true, nil
}

// zeros checks that the rest of the file is zero.
func (r *logReader) zeros() error {
	buffer := make([]byte, 1<<16)
	for {
		n, err := r.in.Read(buffer)
		for _, b := range buffer[:n] {
			if b != 0 {
				return errLog
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
