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
		{"index of the future", cursor{InvocationID: two, AsOf: now.Add(time.Hour)}, root(three, time.Hour), false, true, nil},
		{"cursor of an older version", cursor{InvocationID: two}, root(three, time.Hour), false, true, nil},
		{"a former stream", at, root(one, time.Hour), false, true, errFormerStream},
		{"a former stream that looks recent", at, root(one, 0), false, true, errFormerStream},
		{"a former stream, clock set back", at, root(one, 0), false, false, errFormerStream},
		{"a former stream in which a hub publishes", at, root(one, 0), true, true, nil},
		{"a former stream with a hub that was restored", at, root(one, time.Hour), true, true, errOlderStream},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := notNewer(tt.at, tt.root, tt.moved, tt.clock, now)
			if !errors.Is(got, tt.want) || got != nil && !errors.Is(got, ErrNotNewer) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// TestCursorRemembersStreams follows streams one after the other. The list of former ones is bounded, and has
// no stream that is followed now.
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
