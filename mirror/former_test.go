package mirror

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"rcpt-milter/directory"
)

func TestNotNewer(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	one, two, three := directory.GUID{1}, directory.GUID{2}, directory.GUID{3}
	at := cursor{InvocationID: two, AsOf: now.Add(-time.Minute), Former: []directory.GUID{one}}
	begun := at
	begun.Begun = beginning{InvocationID: three, USN: 7, AsOf: now.Add(-time.Second)}
	first := cursor{Begun: begun.Begun} // of a new edge
	behind := at                        // an operator wanted an older stream
	behind.Begun = beginning{InvocationID: three, USN: 7, AsOf: now.Add(-time.Hour)}
	ahead := at
	ahead.Begun = beginning{InvocationID: three, USN: 7, AsOf: now.Add(time.Hour)}
	root := func(id directory.GUID, age time.Duration) directory.Root {
		return directory.Root{InvocationID: id, Age: age}
	}
	for _, tt := range []struct {
		name         string
		at           cursor
		root         directory.Root
		moved, clock bool
		want         error
	}{
		{"nothing was read", cursor{}, root(one, time.Hour), false, true, nil},
		{"the same stream", at, root(two, 0), false, true, nil},
		{"the same stream with an older directory", at, root(two, time.Hour), false, true, nil},
		{"a new stream", at, root(three, 0), false, true, nil},
		{"a new stream, as recent", at, root(three, time.Minute+asOfSlack), false, true, nil},
		{"a new stream, older", at, root(three, time.Minute+asOfSlack+1), false, true, errOlderStream},
		{"a new stream, older, with a hub", at, root(three, time.Hour), true, true, errOlderStream},
		{"a new stream, age unknown", at, root(three, 100*365*24*time.Hour), true, true, errOlderStream},
		{"a new stream, older, clock set back", at, root(three, time.Hour), false, false, nil},
		{"index of the future", cursor{InvocationID: two, AsOf: now.Add(time.Hour)}, root(three, time.Hour), false,
			true, nil},
		{"cursor of an older version", cursor{InvocationID: two}, root(three, time.Hour), false, true, nil},
		{"a former stream", at, root(one, time.Hour), false, true, errFormerStream},
		{"a former stream that looks recent", at, root(one, 0), false, true, errFormerStream},
		{"a former stream, clock set back", at, root(one, 0), false, false, errFormerStream},
		{"a former stream in which a hub publishes", at, root(one, 0), true, true, nil},
		{"a former stream with a hub that was restored", at, root(one, time.Hour), true, true, errOlderStream},
		{"the stream that was begun", begun, root(three, time.Hour), false, true, nil},
		{"the stream before the one that was begun", begun, root(two, 0), false, true, errFormerStream},
		{"the stream before it, in which a hub publishes", begun, root(two, 0), true, true, nil},
		{"the stream before it, with a hub that was restored", begun, root(two, 30*time.Second), true, true,
			errOlderStream},
		{"a new stream, older than the one that was begun", begun, root(directory.GUID{4}, 30*time.Second), false, true,
			errOlderStream},
		{"a new edge goes on", first, root(three, time.Hour), false, true, nil},
		{"a new edge, and an older stream", first, root(two, time.Hour), false, true, errOlderStream},
		{"a new edge, and a recent stream", first, root(two, 0), false, true, nil},
		{"an older stream was begun, and another is older than the index", behind,
			root(directory.GUID{4}, 30*time.Minute), false, true, errOlderStream},
		{"a stream older than the index, after one was begun while the clock was ahead", ahead,
			root(directory.GUID{4}, time.Hour), false, true, errOlderStream},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := notNewer(tt.at, tt.root, tt.moved, tt.clock, now)
			if !errors.Is(got, tt.want) || got != nil && !errors.Is(got, ErrNotNewer) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// TestCursorRemembersStreams follows streams one after the other. The list of former streams must be limited,
// and must not have the stream that is followed now.
func TestCursorRemembersStreams(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var at cursor
	pass := func(id byte, age time.Duration) {
		began = began.Add(time.Second)
		at = cursor{InvocationID: directory.GUID{id}, Age: age}.follows(at, began)
	}
	pass(1, 0)
	if len(at.Former) != 0 || !at.AsOf.Equal(began) {
		t.Fatalf("first: %+v", at)
	}
	pass(2, time.Minute)
	if !reflect.DeepEqual(at.Former, []directory.GUID{{1}}) || !at.AsOf.Equal(began.Add(-time.Minute)) {
		t.Fatalf("second: %+v", at)
	}
	newest := at.AsOf
	pass(2, time.Hour)
	if !reflect.DeepEqual(at.Former, []directory.GUID{{1}}) || !at.AsOf.Equal(newest) {
		t.Fatalf("another hub that is behind: %+v", at)
	}
	pass(1, 2*time.Hour)
	if !reflect.DeepEqual(at.Former, []directory.GUID{{2}}) || !at.AsOf.Equal(began.Add(-2*time.Hour)) {
		t.Fatalf("back: %+v", at)
	}
	at.AsOf = began.Add(time.Hour)
	pass(1, 0)
	if !at.AsOf.Equal(began) {
		t.Fatalf("after a clock that was ahead: %+v", at)
	}
	for id := byte(10); id < 10+2*maxFormer; id++ {
		pass(id, 0)
	}
	if n := len(at.Former); n != maxFormer || at.Former[0] != (directory.GUID{10 + 2*maxFormer - 2}) {
		t.Errorf("%d former streams, the last one %v", n, at.Former[0])
	}
}

// TestCursorRemembersBeginnings begins passes of several streams that never end.
func TestCursorRemembersBeginnings(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	pass := func(at cursor, id byte, age time.Duration) cursor {
		began = began.Add(time.Second)
		return cursor{InvocationID: directory.GUID{id}, USN: 10 * uint64(id), Age: age}.follows(at, began)
	}
	at := pass(cursor{}, 1, 0)
	for id := byte(2); id < 5; id++ {
		at = at.begins(pass(at, id, 0), 0)
	}
	at = at.begins(pass(at, 4, time.Hour), 45)
	want := cursor{InvocationID: directory.GUID{1}, USN: 10, AsOf: began.Add(-4 * time.Second),
		Former: []directory.GUID{{3}, {2}},
		Begun:  beginning{InvocationID: directory.GUID{4}, USN: 45, AsOf: began.Add(-time.Second)}}
	if !reflect.DeepEqual(at, want) {
		t.Fatalf("%+v\nwant %+v", at, want)
	}
	for _, tt := range []struct {
		name   string
		id     byte
		former []directory.GUID
	}{
		{"the last one ends", 4, []directory.GUID{{1}, {3}, {2}}},
		{"an earlier one ends", 2, []directory.GUID{{4}, {1}, {3}}},
		{"the one of the cursor", 1, []directory.GUID{{4}, {3}, {2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := pass(at, tt.id, 0)
			if !reflect.DeepEqual(got.Former, tt.former) || !got.Begun.InvocationID.IsZero() {
				t.Errorf("%+v, want %v", got, tt.former)
			}
		})
	}
}

// TestIsSetBack: a stream that is behind what was read of it was restored from a backup.
func TestIsSetBack(t *testing.T) {
	one, two := directory.GUID{1}, directory.GUID{2}
	at := cursor{InvocationID: one, USN: 10, Highest: 12}
	begun := func(id directory.GUID, usn uint64) cursor {
		c := at
		c.Begun = beginning{InvocationID: id, USN: usn}
		return c
	}
	for _, tt := range []struct {
		name string
		at   cursor
		id   directory.GUID
		usn  uint64 // of the newest state
		last uint64 // of the last message, if it is later
		want bool
	}{
		{"nothing was read", cursor{}, one, 1, 0, false},
		{"as far", at, one, 12, 0, false},
		{"behind a full pass", at, one, 11, 0, true},
		{"another stream", at, two, 1, 0, false},
		{"behind what was begun", begun(one, 20), one, 19, 0, true},
		{"as far as what was begun", begun(one, 20), one, 20, 0, false},
		{"behind another stream that was begun", begun(two, 20), two, 19, 0, true},
		{"behind the cursor, while another was begun", begun(two, 20), one, 11, 0, true},
		{"not behind the cursor, while another was begun", begun(two, 20), one, 12, 0, false},
		{"not behind what was begun after the newest state", begun(one, 20), one, 12, 20, false},
		{"behind what was begun after the newest state", begun(one, 20), one, 12, 19, true},
		{"behind a full pass, with later messages", at, one, 11, 30, true},
		{"a new edge", cursor{Begun: beginning{InvocationID: two, USN: 20}}, two, 19, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := isSetBack(tt.at, directory.Root{InvocationID: tt.id, HighestCommittedUSN: tt.usn,
				LastUSN: tt.last}); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
		})
	}
}
