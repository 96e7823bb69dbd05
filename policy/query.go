package policy

import "net/netip"

// Query is one RCPT. Only Recipient and Argument name the mailbox. Every field comes from
// the network and may hold anything.
type Query struct {
	Recipient     string     // the {rcpt_addr} macro: parsed, resolved and folded by the MTA; empty: missing
	Argument      string     // the argument of RCPT TO, used only if Recipient is empty
	Client        netip.Addr // zero: not known, or not an IP client
	ClientName    string     // the client's verified host name, "unknown" if it has none
	Authenticated string     // SASL login name; empty: not authenticated
	Helo          string
	From          string // empty: the null sender, or not known
	Nth           int    // of the recipients of its message, from 1; 0: not known
	QueueID       string // empty before the first accepted recipient of a message

	// AnySender means that the caller does not know the sender. A recipient that only some senders
	// may write to is then known, as it is to them.
	AnySender bool
}

// IsBounce reports whether the sender is the null sender (RFC 5321 section 4.5.5), or not known.
func (q Query) IsBounce() bool { return q.From == "" || q.From == "<>" }

// To returns the recipient as the client or the MTA wrote it.
func (q Query) To() string {
	if q.Recipient != "" {
		return q.Recipient
	}
	return q.Argument
}

// ClientLabel names the client as Postfix does: name[address].
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
