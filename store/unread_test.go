package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// unread returns an object with values that need correction.
func unread(t *testing.T, id byte, values ...string) Object {
	o := object(t, id, fmt.Sprintf("u%d@x.test", id))
	o.Unparsed = len(values)
	for _, v := range values {
		o.Unread = append(o.Unread, UnreadValue{"mail", v, "no @"})
	}
	return o
}

// wantUnread compares the list, as directory/object/value.
func wantUnread(t *testing.T, s *Store, count int64, want ...string) {
	t.Helper()
	list, err := s.Unread(100)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, u := range list {
		got = append(got, u.Directory+"/"+strings.SplitN(u.DN, ",", 2)[0]+"/"+u.Value)
	}
	if !slices.Equal(got, want) {
		t.Errorf("unread values are %q, want %q", got, want)
	}
	if n := s.Totals().Unparsed; n != count {
		t.Errorf("%d values are counted, want %d", n, count)
	}
}

// TestUnread: values that need correction are listed by object, once each. They survive a
// restart, and go when the object is corrected or deleted.
func TestUnread(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", unread(t, 1, "a", "b"), unread(t, 2), unread(t, 3, "c"))
	pass(t, s, "lab", Full, start, "", unread(t, 1, "d"))
	all := []string{"corp/CN=1/a", "corp/CN=1/b", "corp/CN=3/c", "lab/CN=1/d"}
	wantUnread(t, s, 4, all...)
	s = reopen(t, s)
	wantUnread(t, s, 4, all...)
	if list, err := s.Unread(3); err != nil || len(list) != 3 {
		t.Errorf("of four values %d are listed, want 3 (%v)", len(list), err)
	}
	// Another value in place of one: the count is the same.
	pass(t, s, "corp", Incremental, start.Add(time.Minute), "", unread(t, 1, "a", "e"))
	wantUnread(t, s, 4, "corp/CN=1/a", "corp/CN=1/e", "corp/CN=3/c", "lab/CN=1/d")
	// One is corrected, the other object deleted.
	pass(t, s, "corp", Incremental, start.Add(2*time.Minute), "", unread(t, 1),
		Object{GUID: GUID{15: 3}, Deleted: true})
	wantUnread(t, s, 1, "lab/CN=1/d")
	// A full pass no longer sees the object.
	pass(t, s, "lab", Full, start.Add(3*time.Minute), "", unread(t, 2))
	wantUnread(t, s, 0)
	wantKnown(t, s, "u1@x.test", "u2@x.test")
}

// TestUnreadIsNew: Apply reports a value once, and not in each pass.
func TestUnreadIsNew(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	for i, c := range []struct {
		values []string
		want   []string
	}{
		{[]string{"a", "b"}, []string{"a", "b"}},
		{[]string{"a", "b"}, nil},
		{[]string{"b", "a", "c"}, []string{"c"}},
		{nil, nil},
		{[]string{"a"}, []string{"a"}},
	} {
		p, err := s.Begin("corp", Full, Origin{Started: start.Add(time.Duration(i) * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		changes, err := p.Apply([]Object{unread(t, 1, c.values...)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(Outcome{Cursor: []byte("1"), Ended: start}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range changes.Unread {
			got = append(got, u.Value)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("pass %d reports %q, want %q", i, got, c.want)
		}
	}
}

// TestUnreadIsBounded: of an object with many long values the store keeps the first ones,
// truncated between two characters, and counts all.
func TestUnreadIsBounded(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	long := strings.Repeat("ü", 10_000)
	var values []string
	for i := range 100 {
		values = append(values, fmt.Sprint(i%10, long))
	}
	pass(t, s, "corp", Full, start, "", unread(t, 1, values...))
	list, err := s.Unread(1000)
	if err != nil || len(list) != maxUnread || s.Totals().Unparsed != 100 {
		t.Errorf("%d values are kept, %d counted, want %d and 100 (%v)", len(list), s.Totals().Unparsed, maxUnread, err)
	}
	for _, u := range list {
		if len(u.Value) > maxUnreadLength+4 || !utf8.ValidString(u.Value) || !strings.HasSuffix(u.Value, "ü…") {
			t.Errorf("a value is kept as %d bytes %q", len(u.Value), u.Value)
		}
	}
	if info := pass(t, s, "corp", Full, start.Add(time.Hour), "", unread(t, 1, values...)); info.Changed != 0 {
		t.Errorf("the same values again change %d objects", info.Changed)
	}
}
