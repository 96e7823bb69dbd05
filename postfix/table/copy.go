package table

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rcpt-milter/internal/files"
)

// A copy of a table on disk has three parts, which are text:
//
//   - a line with the format and the SHA-256 of the header,
//   - the header, a line of JSON, with the SHA-256 of the body,
//   - the body: a line for each entry, in the order of the table, and then for each alias, each after the
//     number of its line in the file. No canonical key has a control character.
//
// A new copy is written beside the old one and renamed, so a crash leaves one of the two.

const (
	copyFormat = "rcpt-milter-accept-copy-1 "
	copyName   = 32      // hexadecimal digits of the name of a copy
	maxCopy    = 8 << 30 // bytes of a copy; that of the largest table is smaller
)

// ErrCopyDamaged is the error of a copy on disk that is not as it was written. The wrapping error has the
// reason.
var ErrCopyDamaged = errors.New("damaged")

// copyHeader is the header of a copy on disk.
type copyHeader struct {
	File     string    `json:"file"`
	Read     int64     `json:"read"`     // when the file was read, in seconds since 1970
	Modified [2]int64  `json:"modified"` // modification time of the file, in seconds and nanoseconds
	FileSize int64     `json:"file_size"`
	Entries  int       `json:"entries"`
	Aliases  int       `json:"aliases"`
	Whole    int       `json:"whole"`  // entries when the file was last applied as a whole; 0: the same number
	Unread   int       `json:"unread"` // invalid lines of the file
	Problems []Problem `json:"problems"`
	Size     int64     `json:"size"` // of the body
	Sum      string    `json:"sha256"`
}

// bodySum is the SHA-256 of the body of a copy. It identifies the entries of a table.
type bodySum [sha256.Size]byte

// copyPath returns the path of the copy of a file. The name is a hash, because a path may be longer than a
// name may be.
func copyPath(dir, file string) string {
	sum := sha256.Sum256([]byte(file))
	return filepath.Join(dir, hex.EncodeToString(sum[:])[:copyName])
}

// isCopyName reports whether a file in the directory of the copies is a copy, or one that was not completed.
func isCopyName(name string) bool {
	if rest, unfinished := strings.CutPrefix(name, "."); unfinished {
		name, _, _ = strings.Cut(rest, ".")
	}
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == copyName
}

// HasCopy reports whether there is a copy of a file on disk, in the directory of Copies. The copy may be
// damaged.
func HasCopy(dir, file string) bool {
	info, err := os.Lstat(copyPath(dir, file))
	return err == nil && info.Mode().IsRegular()
}

// writeBody writes the body of a copy.
func (t *Table) writeBody(w *bufio.Writer) error {
	var line []byte
	for _, e := range t.entries {
		line = append(strconv.AppendUint(line[:0], uint64(e.line), 10), ' ')
		line = append(append(line, t.key(e)...), '\n')
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	for domain, targets := range t.AllAliases() {
		line = strconv.AppendInt(line[:0], int64(t.aliases[domain].line), 10)
		for _, name := range append([]string{domain}, targets...) {
			line = append(append(line, " @"...), name...)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return w.Flush()
}

// sumBody returns the hash and the size of the body of a copy.
func (t *Table) sumBody() (sum bodySum, size int64) {
	hash := sha256.New()
	counted := &counter{w: hash}
	t.writeBody(bufio.NewWriterSize(counted, 64<<10)) // a hash returns no error
	hash.Sum(sum[:0])
	return sum, counted.n
}

// counter counts the bytes that it passes on.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// writeCopy replaces the copy of a file in dir. It syncs the copy and its name.
func writeCopy(dir string, w watched, sum bodySum, size int64) (err error) {
	header, err := json.Marshal(copyHeader{File: w.path, Read: w.read.Unix(),
		Modified: [2]int64{w.modified.Unix(), int64(w.modified.Nanosecond())}, FileSize: w.size,
		Entries: len(w.table.entries), Aliases: len(w.table.aliases), Whole: w.whole, Unread: w.table.unread,
		Problems: w.table.problems, Size: size, Sum: hex.EncodeToString(sum[:])})
	if err != nil {
		return err
	}
	path := copyPath(dir, w.path)
	f, err := createBeside(path, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	out := bufio.NewWriterSize(f, 64<<10)
	fmt.Fprintf(out, "%s%x\n%s\n", copyFormat, sha256.Sum256(header), header) // Flush returns its error
	if err := w.table.writeBody(out); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return files.SyncDir(dir)
}

// readCopy reads the copy of a file in dir. An error that is not os.ErrNotExist means that there is a copy
// which cannot be used; it may be an ErrCopyDamaged.
func readCopy(dir, file string) (w watched, sum bodySum, err error) {
	f, err := Open(copyPath(dir, file))
	if err != nil {
		return w, sum, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return w, sum, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCopy {
		return w, sum, fmt.Errorf("%s: %w: not a copy", f.Name(), ErrCopyDamaged)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return w, sum, err
	}
	if w, sum, err = decodeCopy(data, file); err != nil {
		err = fmt.Errorf("%s: %w: %w", f.Name(), ErrCopyDamaged, err)
	}
	return w, sum, err
}

// decodeCopy decodes a copy. It uses data for the table.
func decodeCopy(data []byte, file string) (w watched, sum bodySum, err error) {
	first, data, _ := bytes.Cut(data, []byte("\n"))
	line, body, complete := bytes.Cut(data, []byte("\n"))
	if !bytes.HasPrefix(first, []byte(copyFormat)) {
		return w, sum, errors.New("not in the format of this version")
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(line)); !complete || want != string(first[len(copyFormat):]) {
		return w, sum, errors.New("the checksum of its header does not match")
	}
	var h copyHeader
	if err := json.Unmarshal(line, &h); err != nil {
		return w, sum, err
	}
	sum = sha256.Sum256(body)
	switch {
	case h.File != file:
		return w, sum, fmt.Errorf("a copy of %s", h.File)
	case hex.EncodeToString(sum[:]) != h.Sum:
		return w, sum, errors.New("its checksum does not match")
	}
	table, err := decodeBody(body, h)
	if err != nil {
		return w, sum, err
	}
	return watched{path: file, table: table, sound: table, whole: cmp.Or(h.Whole, table.Len()),
		read: time.Unix(h.Read, 0), modified: time.Unix(h.Modified[0], h.Modified[1]), size: h.FileSize}, sum, nil
}

// decodeBody makes the table of a body, whose checksum matches. Its text takes the place of the body.
func decodeBody(body []byte, h copyHeader) (*Table, error) {
	t := &Table{text: body[:0], entries: make([]entry, 0, h.Entries), problems: h.Problems, unread: h.Unread}
	for n := range h.Entries + h.Aliases {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		number, key, found := bytes.Cut(line, []byte(" "))
		at, err := strconv.ParseUint(string(number), 10, 32)
		if !found || err != nil || len(t.text)+len(key) > math.MaxUint32 {
			return nil, fmt.Errorf("line %d cannot be read", n+1)
		}
		if n < h.Entries {
			t.add(string(key), int(at))
		} else {
			names := strings.Fields(strings.ReplaceAll(string(key), "@", ""))
			if len(names) < 2 {
				return nil, fmt.Errorf("line %d cannot be read", n+1)
			}
			t.addAlias(names[0], alias{names[1:], int(at)})
		}
		body = rest
	}
	if len(body) > 0 || t.Len() != h.Entries+h.Aliases {
		return nil, errors.New("it has another number of entries than it should have")
	}
	t.count()
	return t, nil
}
