package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of CPU time in /proc; Linux has 100 per second on every architecture that
// Debian knows.
const tick = 10 * time.Millisecond

// processTime returns the CPU time of a process, in user and kernel mode. The clock of another
// process is not named in the kernel's headers for programs: its number is made as
// clock_getcpuclockid(3) makes it. /proc has ticks of 10 ms, too coarse for a round.
func processTime(pid int) (time.Duration, error) {
	const perProcess = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|perProcess, &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// machineTime returns the CPU time that the whole machine was busy (proc(5), first line of
// /proc/stat, without idle and iowait).
func machineTime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat: %q", line)
	}
	return ticks([]string{fields[1], fields[2], fields[3], fields[6], fields[7]})
}

func ticks(fields []string) (sum time.Duration, err error) {
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// findProcess returns the process that runs a program, found by the name of its file.
func findProcess(name string) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
			program, _, _ := strings.Cut(string(line), "\x00")
			if filepath.Base(program) == name {
				return pid, nil
			}
		}
	}
	return 0, fmt.Errorf("no process %s runs", name)
}

// onDisk returns the bytes that the files below a directory occupy.
func onDisk(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += stat.Blocks * 512
		}
		return nil
	})
	return sum, err
}
