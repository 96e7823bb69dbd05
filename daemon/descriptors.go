package daemon

import (
	"errors"
	"os"
	"syscall"

	"rcpt-milter/control"
	"rcpt-milter/stream/engine"
)

// Limits of connections from people and tools. They reserve the remaining file descriptors for Postfix.
const (
	controlConnections = 64
	pageConnections    = 32
	metricsConnections = 64
)

// socketmapConnections limits the connections to the socketmap. Postfix uses one per busy smtpd, and reconnects
// if it loses an idle one.
const socketmapConnections = 512

// Shares of the file descriptors, as divisors of their limit. They matter only if the limit is low.
const (
	listenerShare = 16 // maximum share of each listener above
	engineShare   = 16 // maximum share of the hubs and edges at the engine
	reserveShare  = 8  // reserved for future files of the store, directories and the log
	maxReserve    = 4096
)

// descriptorDir has an entry for each open file descriptor of this process (proc(5)).
const descriptorDir = "/proc/self/fd"

// raiseDescriptorLimit raises the limit of open file descriptors as far as permitted. The Go runtime currently
// does the same, but does not guarantee it.
func raiseDescriptorLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // on failure, the lower limit stays
	}
}

// countDescriptors returns the number of open file descriptors and their limit. If it cannot count them because
// none is left, it returns the limit for both. Without /proc, the number is 0.
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

// listenerBudget returns the maximum number of connections of a listener other than the milter.
func listenerBudget(most, descriptors int) int { return max(1, min(most, descriptors/listenerShare)) }

// budgetOfOthers returns the file descriptors that all listeners other than the milter may use. Each may have
// its connections, one waiting connection, and a socket.
func budgetOfOthers(descriptors int) (sum int) {
	for _, most := range []int{controlConnections, pageConnections, metricsConnections, socketmapConnections} {
		sum += listenerBudget(most, descriptors) + 2
	}
	return sum
}

// engineBudget returns how many connections hubs and edges may have at the engine. 0 means that the limit of file
// descriptors is unknown, so the engine uses its default.
func engineBudget(descriptors int) int {
	if descriptors == 0 {
		return 0
	}
	return max(1, min(engine.MaxConnections, max(descriptors/engineShare, min(256, (descriptors-512)/2))))
}

// sessionBudget returns how many milter connections may be open. used is the number of file descriptors that
// belong to no connection. others is the number of descriptors for the engine, and of listeners for Postfix: each
// may have one waiting connection.
func sessionBudget(wanted, used, limit, others int) int {
	if limit == 0 { // unknown
		return wanted
	}
	left := limit - used - min(limit/reserveShare, maxReserve) - budgetOfOthers(limit) - others
	return max(1, min(wanted, left))
}

// sessionLimit returns how many milter connections may be open: wanted, or fewer if there are not enough file
// descriptors.
func (d *daemon) sessionLimit(wanted int) int {
	now := countDescriptors()
	lookups, _, _, _ := d.socketmap.Connections()
	used := now.Open - d.server.Sessions() - lookups
	for _, s := range d.services() {
		used -= s.connections().Open
	}
	others := len(d.mtaListeners) + len(d.mapListeners)
	if e := d.fleet.engine; e != nil {
		others += engineBudget(now.Limit)
		if inside, _ := e.running(); inside != nil {
			used -= inside.Status().Clients
		}
	}
	limit := sessionBudget(wanted, max(0, used), now.Limit, others)
	if limit < wanted {
		d.log.Warn("not enough file descriptors for limits.connections; raise LimitNOFILE of the service",
			"connections", wanted, "possible", limit, "descriptors", now.Limit)
	}
	return limit
}
