package daemon

import (
	"errors"
	"os"
	"syscall"

	"rcpt-milter/control"
)

// The highest numbers of connections for people and tools. The file descriptors of all other
// connections belong to Postfix.
const (
	controlConnections = 64
	pageConnections    = 32
	metricsConnections = 64
)

// socketmapConnections is the highest number of connections of the socketmap. Postfix has one for
// each busy smtpd, and connects again if it loses an idle one.
const socketmapConnections = 512

// Shares of the file descriptors, as divisors of their limit. They matter only if it is low.
const (
	listenerShare = 16 // at most, for each of the listeners above
	reserveShare  = 8  // kept for files of the store that do not exist yet, directories, and the log
	maxReserve    = 4096
)

// descriptorDir has an entry for each open file descriptor of this process (proc(5)).
const descriptorDir = "/proc/self/fd"

// raiseDescriptorLimit raises the limit of open file descriptors as far as this process may. The
// Go runtime does the same, but does not promise it.
func raiseDescriptorLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // otherwise the lower limit counts
	}
}

// countDescriptors returns the numbers of open and of possible file descriptors. If the former
// cannot be counted because none is left, it is the latter; without /proc it is 0.
func countDescriptors() control.DescriptorStatus {
	var rlimit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &rlimit); err != nil {
		return control.DescriptorStatus{}
	}
	limit := int(min(rlimit.Cur, 1<<30))
	dir, err := os.ReadDir(descriptorDir)
	switch {
	case err == nil:
		return control.DescriptorStatus{Open: len(dir) - 1, Limit: limit} // without that of the directory itself
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		return control.DescriptorStatus{Open: limit, Limit: limit}
	}
	return control.DescriptorStatus{Limit: limit}
}

// listenerBudget returns the highest number of connections of a listener other than the milter.
func listenerBudget(most, descriptors int) int { return max(1, min(most, descriptors/listenerShare)) }

// budgetOfOthers returns the file descriptors of all listeners but those of the milter: their
// connections, one more each that waits, and a socket.
func budgetOfOthers(descriptors int) (sum int) {
	for _, most := range []int{controlConnections, pageConnections, metricsConnections, socketmapConnections} {
		sum += listenerBudget(most, descriptors) + 2
	}
	return sum
}

// sessionBudget returns how many milter connections may be open, with used file descriptors
// that belong to no connection, and a number of listeners for Postfix. Each holds one connection
// that waits.
func sessionBudget(wanted, used, limit, listeners int) int {
	if limit == 0 { // unknown
		return wanted
	}
	left := limit - used - min(limit/reserveShare, maxReserve) - budgetOfOthers(limit) - listeners
	return max(1, min(wanted, left))
}

// sessionLimit returns how many milter connections may be open: limits.connections, or fewer
// if there are not enough file descriptors.
func (d *daemon) sessionLimit(wanted int) int {
	now := countDescriptors()
	lookups, _, _, _ := d.socketmap.Connections()
	used := now.Open - d.server.Sessions() - lookups
	for _, s := range d.services() {
		used -= s.connections().Open
	}
	limit := sessionBudget(wanted, max(0, used), now.Limit, len(d.mtaListeners)+len(d.mapListeners))
	if limit < wanted {
		d.log.Warn("not enough file descriptors for limits.connections; raise LimitNOFILE of the service",
			"connections", wanted, "possible", limit, "descriptors", now.Limit)
	}
	return limit
}
