package control

// ExportQuery asks for the list of recipients.
type ExportQuery struct {
	All   bool `json:"all"`   // also of domains that the configuration does not name, and of those with mode pass
	Force bool `json:"force"` // also where a directory was never read in full
}

// Sources of a recipient.
const (
	SourceIndex  = "index"         // somebody in a directory has the address
	SourceAlias  = "alias"         // a directory has the same local part where the domain is an alias of another one
	SourceAccept = "accept"        // the configuration accepts it
	SourceFile   = "accept_files"  // a file does
	SourceAlways = "always_accept" // its local part is accepted in all our domains
	SourcePass   = "pass"          // the domain is not judged
)

// Recipient is one entry of the list.
type Recipient struct {
	Address    string `json:"address"`    // a mailbox; or @ and a domain, all of which is accepted
	Source     string `json:"source"`     // one of the constants above
	Restricted bool   `json:"restricted"` // only inside senders may write to it
}

// ExportEvent is one piece of the list: exactly one field is set. The head comes first.
type ExportEvent struct {
	Head       *ExportHead `json:"head,omitempty"`
	Recipients []Recipient `json:"recipients,omitempty"`
}

// ExportHead says of what the list was made.
type ExportHead struct {
	Version     string            `json:"version"`
	Time        Time              `json:"time"`
	State       State             `json:"state"`
	Addresses   int64             `json:"addresses"` // of the index, other domains included
	Digest      string            `json:"digest"`    // of the index when the list was begun
	Domains     map[string]string `json:"domains"`   // those of the configuration, with their modes
	Directories []ExportDirectory `json:"directories"`
	Unlisted    []string          `json:"unlisted"` // what is accepted and cannot stand in a list, a sentence each
}

// ExportDirectory is one directory whose recipients are in the list.
type ExportDirectory struct {
	Name        string `json:"name"`
	State       State  `json:"state"`
	LastSuccess Time   `json:"last_success"` // start of the last good pass
}
