package control

// ExpiryStatus says when a directory can no longer be read. Certificates, passwords and accounts
// without a known end are null.
type ExpiryStatus struct {
	Checked     Time   `json:"checked"`     // start of the last good read; null means none yet
	Certificate Time   `json:"certificate"` // first expiry in the chain of the domain controller; null: no TLS
	Password    Time   `json:"password"`    // of the account; null: never, or not known
	Account     Time   `json:"account"`     // null: never, or not known
	LastError   string `json:"last_error"`  // why the last read failed; empty means that it did not
}
