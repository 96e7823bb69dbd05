package address

// ParseLiteral reads local@domain with a literal local part: quotes, backslashes and brackets
// are ordinary characters. A directory may have (p)@example.com, and mail for it has the
// recipient "(p)"@example.com. The domain follows the last @. The error wraps ErrSyntax.
func ParseLiteral(text string) (Address, error) {
	local, domain, err := split(text)
	if err != nil {
		return Address{}, err
	}
	return compose(local, domain)
}
