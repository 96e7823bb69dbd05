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

// verifyLogs checks the logs that Badger replays at the next opening, of memory tables
// and of large values, each while no commit writes to it. Badger takes a log to end at
// the first entry that it cannot read.
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

// The layout of a log, see Badger's memtable.go: a header of the file, then entries of
// header, key, value and checksum; what was not written yet is zero.
const (
	logHeader  = 20
	logMaxKey  = 1 << 16
	logMaxSize = 2 * logFileSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errLog says that a log has something else than entries and zeros.
var errLog = errors.New("checksum mismatch")

// verifyLog checks one log. One that is gone was written out to a table; it is cut short
// before it goes.
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

// checkLog reads one log once, and returns how long it was at the beginning.
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
		return info.Size(), nil // not begun
	}
	for {
		more, err := in.entry()
		if err != nil || !more {
			return info.Size(), err
		}
	}
}

// logReader reads entries, and sums up the bytes of one.
type logReader struct {
	in  *bufio.Reader
	sum uint32
}

func (r *logReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	r.sum = crc32.Update(r.sum, castagnoli, []byte{b})
	return b, err
}

// entry checks one entry, and reports whether there was one before the zeros.
func (r *logReader) entry() (bool, error) {
	begin, err := r.in.Peek(4)
	if err == io.EOF || err == nil && binary.BigEndian.Uint32(begin) == 0 {
		return false, r.zeros()
	}
	r.sum = 0
	var fields [3]uint64 // key and value length, expiry
	for range 2 {        // meta
		if _, err := r.ReadByte(); err != nil {
			return false, errLog
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
	end := len(body) - crc32.Size
	if crc32.Update(r.sum, castagnoli, body[:end]) != binary.BigEndian.Uint32(body[end:]) {
		return false, errLog
	}
	return true, nil
}

// zeros reads the rest of the file.
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
