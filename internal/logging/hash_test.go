package logging

import "testing"

func TestHashAddress(t *testing.T) {
	got := HashAddress([]byte("key"), "ann@a.test", "a.test")
	if want := 2*hashSize + len("@a.test"); len(got) != want || got[2*hashSize:] != "@a.test" {
		t.Errorf("HashAddress gives %q, want %d bytes with the domain", got, want)
	}
	if same := HashAddress([]byte("key"), "ann@a.test", "a.test"); same != got {
		t.Errorf("twice: %q and %q", got, same)
	}
	for _, other := range []string{
		HashAddress([]byte("other key"), "ann@a.test", "a.test"),
		HashAddress([]byte("key"), "bob@a.test", "a.test"),
	} {
		if other == got {
			t.Errorf("another key or address gives %q too", got)
		}
	}
	if whole := HashAddress([]byte("key"), "ann", ""); len(whole) != 2*hashSize {
		t.Errorf("without a domain: %q", whole)
	}
}
