package control

import "fmt"

// Names of listeners.
const (
	ListenerMilter    = "milter"
	ListenerSocketmap = "socketmap"
	ListenerControl   = "control"
	ListenerPage      = "page"
	ListenerMetrics   = "metrics"
)

// ListenerStatus is the state of one listener of the daemon.
type ListenerStatus struct {
	Name     string `json:"name"`     // one of the Listener constants
	Address  string `json:"address"`  // as in the configuration
	Trouble  string `json:"trouble"`  // why clients cannot connect, with the remedy; empty means they can
	Since    Time   `json:"since"`    // start of the trouble
	Restored int64  `json:"restored"` // how often its socket file was gone and was made again

	// Connections of a listener; those for Postfix share them.
	Connections  int   `json:"connections"`   // open now
	Limit        int   `json:"limit"`         // highest number
	AtLimit      int64 `json:"at_limit"`      // that came when the limit was reached: they wait or replace an idle one
	AcceptErrors int64 `json:"accept_errors"` // failed attempts to accept one, such as for lack of file descriptors
}

// DescriptorStatus counts file descriptors of the daemon.
type DescriptorStatus struct {
	Open  int `json:"open"`
	Limit int `json:"limit"` // RLIMIT_NOFILE
}

// Text says in a sentence what is wrong with a listener in trouble.
func (l ListenerStatus) Text() string {
	effect := "the listener of " + l.Name + " is closed"
	switch l.Name {
	case ListenerMilter:
		effect = "Postfix cannot connect, so mail is deferred"
	case ListenerSocketmap:
		effect = "Postfix cannot look recipients up, so mail is deferred if it uses the socketmap"
	case ListenerControl:
		effect = "commands cannot connect"
	}
	return fmt.Sprintf("%s: %s: %s", effect, l.Address, l.Trouble)
}

// Closed returns the listeners that clients cannot connect to.
func (s Status) Closed() (closed []ListenerStatus) {
	for _, l := range s.Listeners {
		if l.Trouble != "" {
			closed = append(closed, l)
		}
	}
	return closed
}

// ClosedToPostfix returns the listeners that Postfix should be able to connect to and cannot.
func (s Status) ClosedToPostfix() (closed []ListenerStatus) {
	for _, l := range s.Closed() {
		if l.Name == ListenerMilter || l.Name == ListenerSocketmap {
			closed = append(closed, l)
		}
	}
	return closed
}
