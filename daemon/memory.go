package daemon

import (
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryShare is the part of a cgroup's limit that Go may use, in percent. The rest is for mapped
// files of the store, stacks of threads, and the kernel's buffers of sockets.
const memoryShare = 80

// limitMemory tells the Go runtime how much memory the cgroup of the process allows, unless the
// environment has GOMEMLIMIT. Near that limit the runtime collects garbage more often, instead of
// growing until the kernel kills the process.
func limitMemory(log *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	allowed := cgroupLimit(os.DirFS("/sys/fs/cgroup"), string(own))
	if allowed == 0 {
		return
	}
	limit := allowed / 100 * memoryShare
	debug.SetMemoryLimit(limit)
	log.Info("memory limit of the cgroup in effect", "cgroup", mib(allowed), "go", mib(limit))
}

// cgroupLimit returns the lowest memory limit, in bytes, of a cgroup and those above it; 0 if
// there is none. It takes the file systems of version 2 (memory.max and memory.high) and of
// version 1 (memory.limit_in_bytes). In a container, /proc/self/cgroup may name a path of the host
// that does not exist; the root is then the limit of the container.
func cgroupLimit(root fs.FS, own string) int64 {
	limit := int64(math.MaxInt64)
	for line := range strings.Lines(own) {
		// hierarchy:controllers:path, see cgroups(7)
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch {
		case fields[1] == "":
			limit = min(limit, lowest(root, ".", fields[2], "memory.max", "memory.high"))
		case strings.Contains(","+fields[1]+",", ",memory,"):
			limit = min(limit, lowest(root, "memory", fields[2], "memory.limit_in_bytes"))
		}
	}
	if limit >= unlimited {
		return 0
	}
	return limit
}

// addressSpace is how much address space the daemon needs beyond that of the process at its start,
// without the files of the store, in bytes: 0.8 GiB with a million addresses. The Go runtime ends
// with a trace if it gets none.
const addressSpace = 1 << 30

// checkAddressSpace returns an ErrConfig if that much address space is not free. A limit of it
// (ulimit -v) does not limit memory, because the runtime reserves far more than it uses.
func checkAddressSpace(need int64) error {
	reserved, err := unix.Mmap(-1, 0, int(min(need, math.MaxInt)), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err == nil {
		return unix.Munmap(reserved)
	}
	allowed := ""
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
		allowed = fmt.Sprintf(" of %s", mib(int64(limit.Cur)))
	}
	return configError{fmt.Errorf("the address space%s is too small, and %s more of it are needed; remove its limit "+
		"(ulimit -v, LimitAS=), and limit the memory instead (MemoryMax=)", allowed, mib(need))}
}

// storeSize returns the size of the files in a directory, in bytes.
func storeSize(dir string) (size int64) {
	entries, _ := os.ReadDir(dir) // an error shows when the store is opened
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

func mib(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

// unlimited is far above any machine. Version 1 writes about 2^63 for no limit.
const unlimited = 1 << 60

// lowest returns the lowest number in files of these names in a directory and those above it.
func lowest(root fs.FS, base, dir string, names ...string) int64 {
	limit := int64(math.MaxInt64)
	for dir = path.Clean("/" + dir); ; dir = path.Dir(dir) {
		for _, name := range names {
			data, err := fs.ReadFile(root, path.Join(base, dir, name))
			if err != nil {
				continue
			}
			if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 {
				limit = min(limit, n)
			}
		}
		if dir == "/" {
			return limit
		}
	}
}
