package socket

import (
	"net"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	a, b, c := &net.UnixListener{}, &net.UnixListener{}, &net.TCPListener{}
	passed := Passed{"one": {a, b}, "two": {c}}
	for _, test := range []struct {
		name, socket string
		others       []string
		want         int
	}{
		{"by name", "one", nil, 2},
		{"the only one of its name", "two", nil, 1},
		{"all", "", nil, 3},
		{"those that no other entry names", "", []string{"one", "none"}, 1},
		{"of another name", "three", nil, 0},
		{"none is left", "", []string{"one", "two"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := passed.Find(test.socket, test.others)
			if len(found) != test.want || (err == nil) != (test.want > 0) {
				t.Errorf("Find gives %d sockets and %v, want %d", len(found), err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), "but one, two; set FileDescriptorName=") {
				t.Errorf("the error is %q", err)
			}
		})
	}
}

func TestReceivePassedNone(t *testing.T) {
	t.Setenv("LISTEN_PID", "")
	t.Setenv("LISTEN_FDS", "")
	if got, err := ReceivePassed(); err == nil {
		t.Errorf("without systemd: %v", got)
	}
}
