package daemon

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"

	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
)

// Bounds on the last list, in bytes.
const (
	maxLastList = 1 << 30
	maxLastLine = 8 << 10
)

// errLastList is wrapped by errors about a last list that is not exactly what a RecipientList writes. What
// cannot be read would be lost, so no part of such a list counts.
var errLastList = errors.New("the last list cannot be read")

// openLastList opens the file of the last list.
func openLastList(path string) (*os.File, error) {
	f, err := tables.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLastList, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is not a regular file")
	case info.Size() > maxLastList:
		err = fmt.Errorf("it is larger than %d MiB", maxLastList>>20)
	default:
		return f, nil
	}
	f.Close()
	return nil, fmt.Errorf("%w: %w", errLastList, err)
}

// checkLastList reads a last list in full, and returns to its beginning. The error wraps errLastList.
func checkLastList(format string, last io.ReadSeeker) error {
	all := 0
	err := eachEntry(format, last, func(control.Recipient) error { all++; return nil })
	if err == nil && all == 0 {
		err = errNoEntry
	}
	if err == nil {
		_, err = last.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLastList, err)
	}
	return nil
}

var errNoEntry = errors.New("it has no entry")

// eachEntry visits the entries of a list that a RecipientList wrote. An error of visit ends it and
// is returned.
func eachEntry(format string, r io.Reader, visit func(control.Recipient) error) error {
	r = io.LimitReader(r, maxLastList)
	if format == "postmap" {
		return tables.EachKey(r, func(key string) error { return visit(control.Recipient{Address: key}) })
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLastLine)
	if format == "json" {
		return eachRow(lines, visit)
	}
	for lines.Scan() {
		if err := visitCanonical(control.Recipient{Address: lines.Text()}, visit); err != nil {
			return err
		}
	}
	return lines.Err()
}

// eachRow visits the rows of a list in JSON, which has one a line.
func eachRow(lines *bufio.Scanner, visit func(control.Recipient) error) error {
	if !lines.Scan() || lines.Text() != "[" {
		return cmp.Or(lines.Err(), errors.New("it is not a JSON array of rows"))
	}
	for lines.Scan() {
		if lines.Text() == "]" {
			if lines.Scan() {
				return errors.New("data follows the end of the array")
			}
			return lines.Err()
		}
		decoder := json.NewDecoder(bytes.NewReader(bytes.TrimSuffix(lines.Bytes(), []byte(","))))
		decoder.DisallowUnknownFields()
		var r control.Recipient
		if err := decoder.Decode(&r); err != nil {
			return err
		}
		if decoder.More() {
			return errors.New("a line has more than one row")
		}
		if err := visitCanonical(r, visit); err != nil {
			return err
		}
	}
	return cmp.Or(lines.Err(), errors.New("it is truncated"))
}

// visitCanonical visits an entry whose address is canonical.
func visitCanonical(r control.Recipient, visit func(control.Recipient) error) error {
	if key, err := tables.CanonicalKey(r.Address); err != nil || key != r.Address {
		return fmt.Errorf("%q is not a canonical address", r.Address)
	}
	return visit(r)
}

// keySet is a set of keys by their hashes. It takes 16 bytes a key, because there may be millions.
type keySet struct {
	seeds  [2]maphash.Seed
	hashes [][2]uint64
	sorted bool
}

func newKeySet() *keySet {
	return &keySet{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (k *keySet) hash(key string) [2]uint64 {
	return [2]uint64{maphash.String(k.seeds[0], key), maphash.String(k.seeds[1], key)}
}

func (k *keySet) add(key string) { k.hashes, k.sorted = append(k.hashes, k.hash(key)), false }

func (k *keySet) has(key string) bool {
	order := func(a, b [2]uint64) int { return slices.Compare(a[:], b[:]) }
	if !k.sorted {
		slices.SortFunc(k.hashes, order)
		k.sorted = true
	}
	_, found := slices.BinarySearchFunc(k.hashes, k.hash(key), order)
	return found
}

// Keep adds the entries of the last list that this one lacks, and returns their number. visit sees
// all entries of the last list. Keep needs ListOptions.Kept. The error wraps errLastList if the last
// list cannot be read, or has no entry.
func (l *RecipientList) Keep(last io.Reader, visit func(control.Recipient)) (kept int, err error) {
	var failed error // of this list
	all := 0
	err = eachEntry(l.options.Format, last, func(r control.Recipient) error {
		if !l.wanted(r) {
			return fmt.Errorf("%q belongs in no list of this format", r.Address)
		}
		visit(r)
		if all++; l.keys.has(r.Address) {
			return nil
		}
		kept++
		failed = l.write(r)
		return failed
	})
	switch {
	case failed != nil:
		return kept, failed
	case err == nil && all == 0:
		err = errNoEntry
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errLastList, err)
	}
	return kept, err
}
