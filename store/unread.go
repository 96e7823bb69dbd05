package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// UnreadValue is a value of a directory that is meant as an SMTP address and needs correction:
// it cannot be parsed, or it is parsed differently from how it looks.
type UnreadValue struct {
	Attribute string
	Value     string // as in the directory; the store truncates a long one
	Reason    string // the problem and how to fix it
}

// Unread is an UnreadValue of a stored object.
type Unread struct {
	Directory string
	GUID      GUID
	DN        string
	UnreadValue
}

// The store keeps the first unread values of each object, truncated, and counts all of them.
const (
	maxUnread       = 8
	maxUnreadLength = 256
)

// unreadValues returns the unread values of an object that the store keeps.
func unreadValues(list []UnreadValue) []UnreadValue {
	kept := slices.Clone(list[:min(len(list), maxUnread)])
	for i := range kept {
		kept[i].Value, kept[i].Reason = truncated(kept[i].Value), truncated(kept[i].Reason)
	}
	return kept
}

// truncated cuts a long text between two characters.
func truncated(text string) string {
	if len(text) <= maxUnreadLength {
		return text
	}
	end := maxUnreadLength
	for end > maxUnreadLength-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

func encodeUnread(list []UnreadValue) []byte {
	e := newEncoder()
	e.uint(uint64(len(list)))
	for _, v := range list {
		e.string(v.Attribute)
		e.string(v.Value)
		e.string(v.Reason)
	}
	return e
}

// decodeUnread reads a u/ value. A nil value is an object without unread values.
func decodeUnread(value []byte) ([]UnreadValue, error) {
	if value == nil {
		return nil, nil
	}
	d := newDecoder(value)
	list := make([]UnreadValue, d.count())
	for i := range list {
		list[i] = UnreadValue{Attribute: d.string(), Value: d.string(), Reason: d.string()}
	}
	return list, d.done()
}

func unreadKey(dir dirID, guid GUID) []byte { return append(dirKey(prefixUnread, dir), guid[:]...) }

// unreadChange compares the unread values of an object with the stored ones. It returns the new
// ones and whether there is any difference. Most objects have none and never had any; for them
// it reads nothing.
func (p *Pass) unreadChange(t *tx, stored *objectRecord, o Object) (added []UnreadValue, changed bool, err error) {
	if stored.unparsed == 0 && len(o.Unread) == 0 {
		return nil, false, nil
	}
	key := unreadKey(p.dir.record.id, o.GUID)
	value, err := t.get(key)
	if err != nil {
		return nil, false, err
	}
	before, err := decodeUnread(value)
	if err != nil {
		return nil, false, t.s.unreadable(fmt.Sprintf("%x", key), err)
	}
	now := unreadValues(o.Unread)
	for _, v := range now {
		if !slices.Contains(before, v) {
			added = append(added, v)
		}
	}
	return added, !slices.Equal(before, now), nil
}

// setUnread writes the unread values of an object.
func (u *unit) setUnread(dir dirID, o Object) {
	key := unreadKey(dir, o.GUID)
	if len(o.Unread) == 0 {
		u.delete(key)
		return
	}
	u.set(key, encodeUnread(unreadValues(o.Unread)))
}

// errUnreadFull ends a scan.
var errUnreadFull = errors.New("enough")

// Unread lists at most limit values of all directories that are meant as SMTP addresses and need
// correction. Totals.Unparsed counts all of them; the list may be shorter, because the store
// keeps only the first few values of each object.
func (s *Store) Unread(limit int) ([]Unread, error) {
	if err := s.beginRead(); err != nil {
		return nil, err
	}
	defer s.endRead()
	names := s.Directories()
	slices.SortFunc(names, strings.Compare)
	var list []Unread
	for _, name := range names {
		id, ok := s.directoryID(name)
		if !ok {
			continue
		}
		err := s.scan(dirKey(prefixUnread, id), false, func(kv pair) error {
			var err error
			list, err = s.appendUnread(list, name, id, kv)
			if err == nil && len(list) >= limit {
				return errUnreadFull
			}
			return err
		})
		if errors.Is(err, errUnreadFull) {
			return list[:limit], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (s *Store) appendUnread(list []Unread, directory string, id dirID, kv pair) ([]Unread, error) {
	values, err := decodeUnread(kv.value)
	if err != nil {
		return list, s.unreadable(fmt.Sprintf("%x", kv.key), err)
	}
	record, err := s.object(id, guidOf(kv.key))
	if err != nil {
		return list, err
	}
	for _, v := range values {
		list = append(list, Unread{directory, guidOf(kv.key), record.dn, v})
	}
	return list, nil
}
