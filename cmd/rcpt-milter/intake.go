package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"

	"rcpt-milter/config"
	"rcpt-milter/milter"
)

// openIntake opens the sockets for Postfix, or takes those that systemd passed.
func openIntake(c *config.Config, log *slog.Logger) (intake []*milter.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range intake {
				l.Close()
			}
			intake = nil
		}
	}()
	options := milter.ListenOptions{Mode: c.Socket.Mode, Allow: c.ListenAllow, Logger: log}
	gid, err := c.SocketGID()
	if err != nil {
		return nil, fmt.Errorf("socket.group: %w", err)
	}
	if gid >= 0 {
		options.Group = strconv.Itoa(gid)
	}
	var passed passedSockets
	for _, e := range c.Listen {
		if e.Network == "fd" {
			sockets, err := passed.take(e.Address, c.Listen)
			if err != nil {
				return intake, fmt.Errorf("listen %q: %w", e, err)
			}
			for _, s := range sockets {
				l, err := milter.Adopt(s, options)
				if err != nil {
					return intake, err
				}
				intake = append(intake, l)
			}
			continue
		}
		makeSocketDir(e)
		l, err := milter.Prepare(e.String(), options)
		if err != nil {
			return intake, err
		}
		intake = append(intake, l)
	}
	return intake, nil
}

// passedSockets are those of systemd's socket activation (sd_listen_fds(3)), by name. They
// are asked for once.
type passedSockets map[string][]net.Listener

// take gives the sockets of a name; without one all those that no other entry names.
func (p *passedSockets) take(name string, entries []config.Endpoint) ([]net.Listener, error) {
	if *p == nil {
		all, err := activation.ListenersWithNames()
		if err != nil {
			return nil, err
		}
		if *p = all; len(all) == 0 {
			return nil, errors.New("systemd passed no socket: enable the socket unit, and start the service through it")
		}
	}
	var sockets []net.Listener
	for _, have := range slices.Sorted(maps.Keys(*p)) {
		if name == have || name == "" && !slices.Contains(entries, config.Endpoint{Network: "fd", Address: have}) {
			sockets = append(sockets, (*p)[have]...)
		}
	}
	if len(sockets) == 0 {
		return nil, fmt.Errorf("systemd passed no socket of that name, but %s: set FileDescriptorName= in the socket unit, or write the name that it has",
			strings.Join(slices.Sorted(maps.Keys(*p)), ", "))
	}
	return sockets, nil
}

// makeSocketDir makes the directory of a unix socket where only it is missing: under /run
// it is gone after every boot. What is wrong with it, whoever opens the socket says.
func makeSocketDir(e config.Endpoint) {
	if e.Network == "unix" {
		os.Mkdir(filepath.Dir(e.Address), 0o755)
	}
}
