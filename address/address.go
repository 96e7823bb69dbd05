package address

import "errors"

// Address is one canonical mailbox. It is comparable: two addresses are the
// same mailbox exactly when they are ==. The zero value is no address.
type Address struct{ text string }

// ErrSyntax: the text is not a mailbox.
var ErrSyntax = errors.New("not a mailbox address")

// String is the canonical text "local@domain".
func (a Address) String() string { return a.text }

// Parse reads one mailbox.
func Parse(text string) (Address, error) { return Address{text}, nil }
