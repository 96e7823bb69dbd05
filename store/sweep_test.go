package store

import (
	"slices"
	"strings"
	"testing"
)

// TestUnseen checks that Unseen returns the objects that a sweep would take for gone: stored,
// not applied, and visible to the pass.
func TestUnseen(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"), object(t, 3, "c@x.test"),
		object(t, 4, "d@x.test"), Object{GUID: GUID{15: 5}, DN: "OU=5", Container: true})
	pass(t, s, "other", Full, start, "", object(t, 9, "z@x.test"))
	visible := func(dn string) bool { return !strings.HasPrefix(dn, "CN=4,") }
	p, err := s.Begin("corp", Full, Origin{Controller: "dc1", Started: start, Visible: visible})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	want := func(seen GUID, want ...byte) {
		t.Helper()
		got, err := p.Unseen()
		var last []byte
		for _, guid := range got {
			last = append(last, guid[15])
		}
		if err != nil || !slices.Equal(last, want) || !p.Saw(seen) {
			t.Errorf("unseen are %v, %v, want %v; saw %v: %t", last, err, want, seen, p.Saw(seen))
		}
	}
	apply := func(o Object) {
		t.Helper()
		if _, err := p.Apply([]Object{o}); err != nil {
			t.Fatal(err)
		}
	}
	apply(object(t, 1, "a@x.test"))
	want(GUID{15: 1}, 2, 3, 5)
	apply(object(t, 7, "new@x.test"))
	apply(object(t, 3))
	want(GUID{15: 7}, 2, 5)
	if err := p.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: start}); err != nil {
		t.Fatal(err)
	}
	wantKnown(t, s, "a@x.test", "d@x.test", "new@x.test", "z@x.test")
}
