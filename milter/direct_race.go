//go:build race

package milter

import "syscall"

// The race detector treats a system call of package syscall as a synchronization with a peer in the same
// process. A raw system call would hide it.

func rawRead(fd uintptr, p []byte) (int, syscall.Errno) { return called(syscall.Read(int(fd), p)) }

func rawWrite(fd uintptr, p []byte) (int, syscall.Errno) { return called(syscall.Write(int(fd), p)) }

func called(n int, err error) (int, syscall.Errno) {
	if err != nil {
		return 0, err.(syscall.Errno)
	}
	return n, 0
}
