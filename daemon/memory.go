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

// memoryShare is the share of the cgroup's memory limit that Go may use, in percent. The rest is for mapped
// files of the store, thread stacks, and socket buffers of the kernel.
const memoryShare = 80

// limitMemory sets the memory limit of the Go runtime from the limit of the process's cgroup, unless the
// environment sets GOMEMLIMIT. Near the limit, the runtime collects garbage more often. Without it, the process
// would grow until the kernel kills it.
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

// cgroupLimit returns the lowest memory limit of a cgroup and its ancestors, in bytes. It returns 0 if there is
// none. It supports version 2 (memory.max and memory.high) and version 1 (memory.limit_in_bytes). In a
// container, /proc/self/cgroup may name a path of the host that does not exist; the limit of the container is
// then at the root.
func cgroupLimit(root fs.FS, own string) int64 {
	limit := int64(math.MaxInt64)
	for line := range strings.Lines(own) {
		// The format is hierarchy:controllers:path; see cgroups(7).
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

// addressSpace is the address space that the daemon needs in addition to that of the process at its start and
// to the files of the store, in bytes. A million addresses need 0.8 GiB. Without it, the Go runtime crashes
// with a trace.
const addressSpace = 1 << 30

// checkAddressSpace returns an ErrConfig unless need bytes of address space are available. A limit of the
// address space (ulimit -v) is no useful limit of memory, because the runtime reserves far more than it uses.
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

// storeSize returns the total size of the files in a directory, in bytes.
func storeSize(dir string) (size int64) {
	entries, _ := os.ReadDir(dir) // opening the store reports an error
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

func mib(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

// unlimited is larger than the memory of any machine. Version 1 reports about 2^63 if there is no limit.
const unlimited = 1 << 60

// lowest returns the lowest number in the named files of a directory and its ancestors.
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
