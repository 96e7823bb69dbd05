package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// UnreadValue is a value of a directory that is meant as an SMTP address and should be
// corrected: it cannot be read, or not as a reader would take it.
type UnreadValue struct {
	Attribute string
	Value     string // as the directory holds it; the store cuts long ones
	Reason    string // what is wrong, and what to do about it
}

// Unread is an UnreadValue of a stored object.
type Unread struct {
	Directory string
	GUID      GUID
	DN        string
	UnreadValue
}

// Of each object the store keeps the first unread values and the beginning of each; it
// counts all of them.
const (
	maxUnread       = 8
	maxUnreadLength = 256
)

// unreadValues returns what the store keeps of the unread values of an object.
func unreadValues(list []UnreadValue) []UnreadValue {
	kept := slices.Clone(list[:min(len(list), maxUnread)])
	for i := range kept {
		kept[i].Value, kept[i].Reason = truncated(kept[i].Value), truncated(kept[i].Reason)
	}
	return kept
}

// shortened cuts a text between two characters.
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

// decodeUnread reads a u/ value. No value (nil) is an object without unread values.
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

// unreadChange compares the unread values of an object with the stored ones. It returns
// those that are new, and whether anything differs. Most objects have none and never
// had, and cost no read.
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

// errEnough ends a scan.
var errUnreadFull = errors.New("enough")

// Unread lists values that are meant as SMTP addresses and should be corrected, of all
// directories, at most so many. Totals.Unparsed counts them; the list may be shorter
// than that, because the store keeps the first few values of each object.
func (s *Store) Unread(most int) ([]Unread, error) {
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
			if err == nil && len(list) >= most {
				return errUnreadFull
			}
			return err
		})
		if errors.Is(err, errUnreadFull) {
			return list[:most], nil
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
