package directory

import (
	"testing"

	"rcpt-milter/testenv"
)

// Samba looks for changes every five seconds, so an event takes a while and several
// changes may share one: what counts is that one arrives.
func TestSambaWatch(t *testing.T) {
	dc := samba(t)
	w := watch(t, dc.dial(t, nil))
	w.await("registration", w.ready)
	dn := must[string](t)(dc.admin.AddUser(testenv.Person{Name: "dir-watched", Mail: "dir-watched@corp.example"}))
	t.Cleanup(func() { dc.admin.Delete(dn) })
	w.await("a new user", w.changed)
	for len(w.changed) > 0 {
		<-w.changed
	}
	ok(t, dc.admin.Delete(dn))
	w.await("a deletion", w.changed)
	w.stop()
	if err := w.end(); err == nil {
		t.Error("a watch that was stopped ends without an error")
	}
}
