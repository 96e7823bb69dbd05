package socket

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// Passed holds the sockets of systemd's socket activation (sd_listen_fds(3)), by name.
type Passed map[string][]net.Listener

// ReceivePassed returns the sockets that systemd passed to this process. A second call finds
// none, because the first one takes them out of the environment.
func ReceivePassed() (Passed, error) {
	all, err := activation.ListenersWithNames()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("systemd passed no socket; enable the socket unit and start the service through it")
	}
	return all, nil
}

// Find returns the sockets of a name. An empty name stands for all sockets whose names are not
// in others.
func (p Passed) Find(name string, others []string) ([]net.Listener, error) {
	var found []net.Listener
	names := slices.Sorted(maps.Keys(p))
	for _, have := range names {
		if name == have || name == "" && !slices.Contains(others, have) {
			found = append(found, p[have]...)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("systemd passed no socket of that name, but %s; "+
			"set FileDescriptorName= in the socket unit or use the name that it has", strings.Join(names, ", "))
	}
	return found, nil
}
