package main

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rcpt-milter/control"
)

// disk is an ext4 file system of its own.
type disk struct {
	t           *testing.T
	dir, device string
}

// newDisk makes a file system in a file and mounts it. That needs root, a loop device and mkfs.ext4.
func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: a read-only disk; mounting one needs root")
	}
	command := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Skipf("NOT TESTED: a read-only disk; %s: %v: %s", name, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 256<<20)); err != nil {
		t.Fatal(err)
	}
	command("mkfs.ext4", "-q", image)
	d := &disk{t, t.TempDir(), command("losetup", "--find", "--show", image)}
	t.Cleanup(func() { exec.Command("losetup", "--detach", d.device).Run() })
	if err := unix.Mount(d.device, d.dir, "ext4", 0, ""); err != nil {
		t.Skipf("NOT TESTED: a read-only disk; mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

// fail makes the file system read-only, as the kernel does after an error. Files that are open for
// writing do not prevent that; an ordinary remount fails with EBUSY while a daemon has its store open.
func (d *disk) fail() {
	d.t.Helper()
	d.remount(0, "errors=remount-ro,abort")
	if err := os.WriteFile(filepath.Join(d.dir, "probe"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		d.t.Fatalf("writing to the failed file system: %v", err)
	}
}

func (d *disk) remount(flags uintptr, options string) {
	d.t.Helper()
	if err := unix.Mount(d.device, d.dir, "", unix.MS_REMOUNT|flags, options); err != nil {
		d.t.Fatal(err)
	}
}

// repair mounts the file system again, as after fsck. No file of it may be open.
func (d *disk) repair() {
	d.t.Helper()
	err := unix.Unmount(d.dir, 0)
	if err = errors.Join(err, unix.Mount(d.device, d.dir, "ext4", 0, "")); err != nil {
		d.t.Fatal(err)
	}
}

// TestReadOnlyDisk: the disk of the store becomes read-only under a daemon, stays so at the next
// start, and is repaired. No recipient is rejected wrongly, the daemon says what is wrong, it ends
// when it has to, and it is updated again without a restart where its files are not in the way.
func TestReadOnlyDisk(t *testing.T) {
	disk := newDisk(t)
	r := newRig(t, "confirm: {enabled: false}", "stale_after: 12h")
	metrics := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+metrics)
	r.edit("store: {dir: "+r.dir+"/store", "store: {dir: "+disk.dir+"/store")
	answers := func(recipients map[string]string) {
		t.Helper()
		session, err := dialMilter(r.milterSocket())
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		for recipient, reply := range recipients {
			session.want(t, recipient, reply)
		}
	}
	says := func(state control.StoreState, code int) {
		t.Helper()
		s := r.waitFor("the store is "+string(state), func(s control.Status) bool {
			return s.StoreState == state && s.Directories[0].LastError != ""
		})
		if len(s.Alarms) != 1 || !strings.Contains(s.StoreError, "read-only file system") ||
			!strings.Contains(s.Directories[0].LastError, "read-only file system") {
			t.Errorf("status: %q, %q, %q", s.Alarms, s.StoreError, s.Directories[0].LastError)
		}
		if got, body, err := getFrom(t.Context(), "tcp", metrics, metrics, "/readyz", nil); got != code {
			t.Errorf("/readyz: %d %s, %v, want %d", got, body, err, code)
		}
		if line := `rcpt_milter_store_state{state="` + string(state) + `"} 1`; !strings.Contains(r.scrape(metrics),
			line) {
			t.Errorf("the metrics have no %s", line)
		}
	}
	updated := func() {
		t.Helper()
		r.waitFor("the index is updated", func(s control.Status) bool {
			return s.StoreState == control.StoreOK && s.State == control.Fresh && s.Directories[0].LastError == ""
		})
	}

	daemon := r.spawn().ready()
	r.want(exitOK, "sync", "--wait")
	disk.fail()
	r.addUser("john", "SMTP:john@corp.example")
	says(control.StoreReadOnly, http.StatusOK)
	for range 3 {
		r.want(exitFailure, "sync", "--wait")
	}
	says(control.StoreReadOnly, http.StatusOK)
	answers(map[string]string{"jane@corp.example": "continue", "nobody@corp.example": "550"})
	daemon.signal(syscall.SIGTERM)
	if err := daemon.wait(); err == nil || strings.Contains(daemon.log.String(), "gave up waiting") {
		t.Errorf("the daemon ended: %v\n%s", err, daemon.log)
	}

	daemon = r.spawn().ready() // cannot read the store before it is recovered
	says(control.StoreFailed, http.StatusServiceUnavailable)
	answers(map[string]string{"jane@corp.example": "451", "john@corp.example": "451", "nobody@corp.example": "451"})
	disk.repair()
	updated()
	answers(map[string]string{"jane@corp.example": "continue", "john@corp.example": "continue",
		"nobody@corp.example": "550"})
	daemon.stop()

	disk.remount(unix.MS_RDONLY, "")
	r.addUser("jill", "SMTP:jill@corp.example")
	daemon = r.spawn().ready()
	says(control.StoreReadOnly, http.StatusOK)
	answers(map[string]string{"john@corp.example": "continue", "nobody@corp.example": "550"})
	disk.remount(0, "")
	updated()
	r.want(exitOK, "sync", "--wait")
	answers(map[string]string{"jill@corp.example": "continue"})
	daemon.stop()
}
