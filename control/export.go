package control

// ExportQuery selects recipients.
type ExportQuery struct {
	All   bool `json:"all"`   // include domains without an entry in domains, and those in mode pass
	Force bool `json:"force"` // export even if no full pass of a directory has completed
	Open  bool `json:"open"`  // include whole domains in which no recipient is rejected now
}

// Sources of a recipient.
const (
	SourceIndex  = "index"         // an object in a directory has the address
	SourceAlias  = "alias"         // a directory has the local part in the target of the domain alias
	SourceAccept = "accept"        // accept in the configuration
	SourceFile   = "accept_files"  // a file of accept_files
	SourceAlways = "always_accept" // the local part is accepted in all domains
	SourcePass   = "pass"          // the domain is in mode pass
	SourceReport = "report"        // the domain is in mode report, which rejects nothing
	SourceEmpty  = "empty"         // no address of the enforced domain is known, so nothing is rejected
	SourceStale  = "stale"         // an accept file of the enforced domain is too old, so nothing is rejected
)

// Recipient is one entry of the list.
type Recipient struct {
	Address    string `json:"address"`    // a mailbox, or @domain for all recipients of a domain
	Source     string `json:"source"`     // one of the constants above
	Restricted bool   `json:"restricted"` // internal-only
}

// ExportEvent is one part of the list: exactly one field is set. The head comes first.
type ExportEvent struct {
	Head       *ExportHead `json:"head,omitempty"`
	Recipients []Recipient `json:"recipients,omitempty"`
}

// ExportHead describes the source of the list.
type ExportHead struct {
	Version     string            `json:"version"`
	Time        Time              `json:"time"`
	State       State             `json:"state"`
	Addresses   int64             `json:"addresses"` // of the index, including other domains
	Digest      string            `json:"digest"`    // of the index at the start
	Domains     map[string]string `json:"domains"`   // modes by domain
	Directories []ExportDirectory `json:"directories"`
	Unlisted    []string          `json:"unlisted"` // what is accepted and cannot be listed, one sentence each
}

// ExportDirectory is a directory whose recipients are in the list.
type ExportDirectory struct {
	Name        string `json:"name"`
	State       State  `json:"state"`
	LastSuccess Time   `json:"last_success"` // start of the last good pass
}
