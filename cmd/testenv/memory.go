package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// shm is where Linux keeps files in memory.
const shm = "/dev/shm"

// tmpfsMagic is TMPFS_MAGIC of statfs(2).
const tmpfsMagic = 0x01021994

// enoughMemory is what must be free in shm and in the machine. The tests use less than 1 GiB.
const enoughMemory = 4 << 30

// inMemory returns the environment of tests whose temporary files are in memory, and a function
// that removes these files. A store of a test syncs every commit, which takes most of its time on
// a disk. Nothing changes if the caller chose a directory by TMPDIR, or if memory is short.
func inMemory(env []string) (tests []string, remove func()) {
	remove = func() {}
	if os.Getenv("TMPDIR") != "" || !memoryFor(enoughMemory) {
		return env, remove
	}
	dir, err := os.MkdirTemp(shm, "test")
	if err != nil {
		return env, remove
	}
	// Some tests run programs under other accounts.
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		os.RemoveAll(dir)
		return env, remove
	}
	// The programs that go test builds are large, and need no memory.
	return append(env, "TMPDIR="+dir, "GOTMPDIR="+os.TempDir()), func() { os.RemoveAll(dir) }
}

// memoryFor reports whether shm is in memory and that many bytes are free.
func memoryFor(bytes uint64) bool {
	var fs unix.Statfs_t
	var machine unix.Sysinfo_t
	if unix.Statfs(shm, &fs) != nil || unix.Sysinfo(&machine) != nil {
		return false
	}
	return fs.Type == tmpfsMagic && fs.Bavail*uint64(fs.Bsize) >= bytes &&
		uint64(machine.Freeram+machine.Bufferram)*uint64(machine.Unit) >= bytes
}
