package socket

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestTakeAfterFileGone: the file is removed while the daemon opens its store.
func TestTakeAfterFileGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Prepare("unix:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Take(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// exhausted is a socket whose Accept fails for lack of file descriptors.
type exhausted struct{ kernel }

func (exhausted) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

// TestReplacedSocketWithoutDescriptors: the error reaches the caller, which waits before it tries
// again.
func TestReplacedSocketWithoutDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen("unix:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	waiting, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	l.sockets[0] = exhausted{l.sockets[0]}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if restored, err := l.Restore(); !restored || err != nil {
		t.Fatal(restored, err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("Accept succeeds without a descriptor")
	}
}
