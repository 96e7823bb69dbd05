package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
)

// Badger opens a store that lost some of its newest files, or the end of its manifest, as if the
// lost commits had never been. Two things show the loss:
//
//   - m/commit is part of each commit. It has a sum over the tracked keys and the commits that
//     last wrote them. If the sum differs from that of the opened store, a commit before the
//     newest one is lost, or a part of it.
//   - COMMITTED is a file beside Badger's. It has the number of the last commit that is on disk, and
//     which databases the commits have read. It is written after that commit, so a crash leaves it
//     behind the store and never ahead of it.
//
// A sum that differs is damage. A file ahead of the store means an older state, which is sound
// but does not have what was learned last: until each directory has been read in full, as far as
// before, an address that the index does not have is not unknown. See lost_reads.go.

const commitFileName = "COMMITTED"

const (
	commitFileMagic = "rcm1"
	commitFileSize  = len(commitFileMagic) + 8 + crc32.Size // of its first part

	maxCommitFile = 1 << 20
)

// commitFile is the open file COMMITTED of a store.
type commitFile struct{ f *os.File }

// committed is what the file says.
type committed struct {
	commit uint64    // zero means that it has none
	reads  lostReads // nil means unknown
}

// openCommitFile opens the file and reads it.
func openCommitFile(dir string, readOnly bool) (*commitFile, committed, error) {
	flags := os.O_RDWR | os.O_CREATE
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(filepath.Join(dir, commitFileName), flags, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, committed{}, nil
	}
	if err != nil {
		return nil, committed{}, err
	}
	b, _ := io.ReadAll(io.LimitReader(f, maxCommitFile)) // what cannot be read is damage
	content, err := decodeCommitted(b)
	if err != nil {
		f.Close()
		return nil, committed{}, err
	}
	return &commitFile{f}, content, nil
}

// readCommitFile returns what the file of a store says that is not open. All is zero if it cannot be
// read, or if there is no store.
func readCommitFile(dir string) committed {
	if dir == "" {
		return committed{}
	}
	m, content, err := openCommitFile(dir, true)
	if err == nil && m != nil {
		m.f.Close()
	}
	return content
}

// decodeCommitted reads the content of the file. A crash before its first commit leaves it empty. A crash of the
// machine may leave the second part, with what was read, unreadable; earlier versions did not write it.
func decodeCommitted(b []byte) (c committed, err error) {
	if len(b) == 0 {
		return c, nil
	}
	end := commitFileSize - crc32.Size
	if len(b) < commitFileSize || string(b[:len(commitFileMagic)]) != commitFileMagic ||
		crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return c, damagedFile{fmt.Errorf("%s: checksum mismatch", commitFileName)}
	}
	c.commit = binary.BigEndian.Uint64(b[len(commitFileMagic):])
	if b = b[commitFileSize:]; len(b) < 4 {
		return c, nil
	}
	size := uint64(binary.BigEndian.Uint32(b))
	if b = b[4:]; uint64(len(b)) < size+crc32.Size {
		return c, nil
	}
	part := b[:size]
	// The sum includes the number of the commit, so the parts of two contents do not match.
	if binary.BigEndian.Uint32(b[size:]) != readsSum(c.commit, part) {
		return c, nil
	}
	d := newDecoder(part)
	if reads := d.lostReads(); d.done() == nil {
		c.reads = reads
	}
	return c, nil
}

func readsSum(commit uint64, part []byte) uint32 {
	return crc32.Checksum(append(binary.BigEndian.AppendUint64(nil, commit), part...), castagnoli)
}

func (c committed) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte(commitFileMagic), c.commit)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	part := newEncoder()
	part.lostReads(c.reads)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	return binary.BigEndian.AppendUint32(b, readsSum(c.commit, part))
}

// write records a commit that is on disk. It does not wait for the disk: an older content only
// detects less. For the same reason an error does not matter.
func (m *commitFile) write(c committed) {
	if m == nil {
		return
	}
	_, _ = m.f.WriteAt(c.encode(), 0)
}

func (m *commitFile) close() {
	if m == nil {
		return
	}
	_ = m.f.Sync()
	_ = m.f.Close()
}

// sumOf returns what a key and the commit that last wrote it add to the sum. The hash of a key
// must not depend on the process, unlike that of a census row.
func sumOf(key uint64, commit uint32) uint64 {
	x := key ^ uint64(commit)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9 // the finalizer of SplitMix64
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func stableHash(key []byte) uint64 {
	h := fnv.New64a()
	h.Write(key) // never fails
	return h.Sum64()
}

func commitValue(sum uint64) []byte {
	e := newEncoder()
	e.raw(binary.BigEndian.AppendUint64(nil, sum))
	return e
}

// checkCommits compares the store that was just opened with m/commit and with the file. It
// returns an error if a commit before the newest one is lost, and sets doubts if the newest are.
func (s *Store) checkCommits(last committed) error {
	marked := last.commit
	sum, commit, err := s.lastCommit()
	switch {
	case err != nil:
		return err
	case commit == 0 && marked == 0: // a new store, or one of an earlier version
		if reads := readCommitFile(s.newestAside()).reads; len(reads) > 0 {
			s.doubt("a damaged store was set aside", reads)
		}
	case commit == 0 || commit < marked:
		s.doubt(fmt.Sprintf("the store was opened at an older state (commit %d) than it was left in (commit %d); "+
			"some of its files are lost or were restored", commit, marked), last.reads)
	case sum == s.census.sum:
	case commit < s.writer.ts:
		s.doubt("an earlier version of rcpt-milter wrote to the store, or some of its files are lost", nil)
	default:
		return damageError(s.config.Dir, fmt.Errorf("its records are not those of its last commit (%d)", commit))
	}
	return nil
}

// lastCommit reads m/commit and its version. Both are zero in a store of an earlier version.
func (s *Store) lastCommit() (sum, commit uint64, err error) {
	txn := s.db.NewTransactionAt(s.writer.ts, false)
	defer txn.Discard()
	commit, err = s.getItem(txn, []byte(keyCommit), func(value []byte) error {
		d := newDecoder(value)
		raw := d.raw(8)
		if err := d.done(); err != nil {
			return s.unreadable(keyCommit, err)
		}
		sum = binary.BigEndian.Uint64(raw)
		return nil
	})
	return sum, commit, err
}
