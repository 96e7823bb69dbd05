package policy

import "net/netip"

// Query describes one RCPT. Only Recipient and Argument name the mailbox. All fields come from the network and
// may have any content.
type Query struct {
	Recipient string // the {rcpt_addr} macro: parsed, resolved and folded by the MTA; empty: missing
	// Argument is that of RCPT TO. It names the mailbox if Recipient is empty. If it is not ASCII, it
	// decides the domain, because the MTA may have folded that into another.
	Argument      string
	Client        netip.Addr // zero: not known, or not an IP client
	ClientName    string     // the client's verified host name, "unknown" if it has none
	Authenticated string     // SASL login name; empty: not authenticated
	Helo          string
	From          string // empty means the null sender, or unknown
	Nth           int    // position among the recipients of its message, from 1; 0 means unknown
	QueueID       string // empty before the first accepted recipient of a message

	// NoSearch means that row 10 does not search the directories.
	NoSearch bool

	// AnySender means that the caller does not know the sender. A recipient that only some senders may write to
	// is then known.
	AnySender bool

	// Lookup means that an operator asks, not a client. The searches of row 10 then get at most half of the
	// budget, as for clients over the harvest limit, so they never use up what real recipients need.
	Lookup bool
}

// IsBounce reports whether the sender is the null sender (RFC 5321 section 4.5.5) or unknown.
func (q Query) IsBounce() bool { return q.From == "" || q.From == "<>" }

// To returns the recipient as the client or the MTA wrote it.
func (q Query) To() string {
	if q.Recipient != "" {
		return q.Recipient
	}
	return q.Argument
}

// ClientLabel returns the client in the format of Postfix: name[address].
func (q Query) ClientLabel() string {
	name, addr := q.ClientName, "unknown"
	if name == "" {
		name = "unknown"
	}
	if q.Client.IsValid() {
		addr = q.Client.String()
	}
	return name + "[" + addr + "]"
}
