package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcpt-milter/control"
)

// truncate cuts the files of the store that match a pattern down to some bytes.
func (r *rig) truncate(pattern string, size int64) {
	r.t.Helper()
	all, err := filepath.Glob(filepath.Join(r.dir, "store", pattern))
	if err != nil || len(all) == 0 {
		r.t.Fatalf("no %s: %v", pattern, err)
	}
	for _, file := range all {
		if err := os.Truncate(file, size); err != nil {
			r.t.Fatal(err)
		}
	}
}

func rebuilt(s control.Status) bool {
	return s.StoreState == control.StoreOK && s.StoreSetAside != "" && s.State == control.Fresh && s.Addresses == 2
}

// TestDamagedStoreIsRebuilt: files of the store go while the daemon runs. It stays up, a valid
// recipient is never rejected, and the index is rebuilt from the directory. The same at a start.
func TestDamagedStoreIsRebuilt(t *testing.T) {
	r := newRig(t, "confirm: {enabled: false}")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	d.stop() // writes a table
	d = r.serve()
	r.waitFor("the index is fresh", func(s control.Status) bool { return s.State == control.Fresh })
	stop := r.probe(map[string]string{"jane@corp.example": "continue 451", "nobody@corp.example": "550 451"})
	r.truncate("*.sst", 0)
	r.command("check") // verifies
	s := r.waitFor("the store is rebuilt", rebuilt)
	stop()
	if len(s.Alarms) != 1 || !strings.Contains(s.Alarms[0], s.StoreSetAside) {
		t.Errorf("alarms: %q", s.Alarms)
	}
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	session.want(t, "jane@corp.example", "continue")
	session.want(t, "nobody@corp.example", "451") // right after that, a miss does not count
	session.Close()
	for _, line := range []string{"store damaged", "damaged store set aside", "store opened again"} {
		if !strings.Contains(d.log.String(), line) {
			t.Errorf("the log does not have %q:\n%s", line, d.log)
		}
	}
	d.stop()
	if err := os.RemoveAll(s.StoreSetAside); err != nil {
		t.Fatal(err)
	}
	r.truncate("MANIFEST", 20)
	r.edit("min_free: 1MiB", "min_free: 1MiB, rebuild: never")
	if out := r.want(exitFailure, "serve"); !strings.Contains(out, "the store is damaged") {
		t.Errorf("serve with rebuild: never says %q", out)
	}
	r.edit("rebuild: never", "rebuild: auto")
	r.serve()
	r.waitFor("the store is rebuilt after a start", rebuilt)
	r.want(exitOK, "lookup", "jane@corp.example")
}

// TestStartWithFullDisk: with less than min_free the daemon starts and answers from the index.
func TestStartWithFullDisk(t *testing.T) {
	r := newRig(t, "confirm: {enabled: false}", "stale_after: 12h")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	d.stop()
	r.edit("min_free: 1MiB", "min_free: 1000000GiB")
	d = r.serve()
	s := r.waitFor("a pass failed", func(s control.Status) bool { return s.Directories[0].LastError != "" })
	if s.StoreState != control.StoreReadOnly || !strings.Contains(s.StoreError, "store.min_free") ||
		len(s.Alarms) != 1 || s.Addresses != 2 {
		t.Errorf("status %+v", s)
	}
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	session.want(t, "jane@corp.example", "continue")
	session.want(t, "nobody@corp.example", "550")
	session.Close()
	d.stop()
	if !strings.Contains(d.log.String(), "too little disk space") {
		t.Errorf("the log does not mention it:\n%s", d.log)
	}
	r.edit("min_free: 1000000GiB", "min_free: 1MiB")
	r.serve()
	r.waitFor("the index is updated again", func(s control.Status) bool {
		return s.StoreState == control.StoreOK && s.State == control.Fresh && s.Directories[0].LastError == ""
	})
}

// TestOlderStore: files of the store from before the last changes are in its place, and no
// domain controller answers. A recipient that was added since is deferred and not rejected.
func TestOlderStore(t *testing.T) {
	r := newRig(t, "confirm: {enabled: false}")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	d.stop()
	dir, older := filepath.Join(r.dir, "store"), filepath.Join(r.dir, "older")
	if err := os.CopyFS(older, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	d = r.serve()
	r.addUser("john", "SMTP:john@corp.example")
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "john@corp.example")
	d.stop()
	if err := errors.Join(os.Rename(filepath.Join(dir, "COMMITTED"), filepath.Join(older, "COMMITTED")),
		os.RemoveAll(dir), os.Rename(older, dir)); err != nil {
		t.Fatal(err)
	}
	r.server.Down()
	d = r.serve()
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "jane@corp.example", "continue")
	session.want(t, "john@corp.example", "451")
	if s := r.status(); s.State != control.NotReady {
		t.Errorf("state %s", s.State)
	}
	if err := r.server.Up(); err != nil {
		t.Fatal(err)
	}
	r.waitFor("the directory was read in full", func(s control.Status) bool { return s.State == control.Fresh })
	session.want(t, "john@corp.example", "continue")
	session.want(t, "nobody@corp.example", "550")
	if why := r.status().Directories[0].FullPassReason; !strings.Contains(why, "older state") {
		t.Errorf("the full pass began because %q", why)
	}
	if !strings.Contains(d.log.String(), "the index may be incomplete") {
		t.Errorf("the log does not mention it:\n%s", d.log)
	}
}
