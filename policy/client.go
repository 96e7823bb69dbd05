package milter

import "net/netip"

// translated is the prefix through which IPv6-only networks see hosts of the IPv4 internet
// (RFC 6052 section 2.1). As IPv6 they would all be one network.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// CanonicalClient returns the address of a client in the one form in which networks are
// compared: IPv4-mapped and translated addresses as IPv4, without a zone.
func CanonicalClient(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	if translated.Contains(client) {
		long := client.As16()
		return netip.AddrFrom4([4]byte(long[12:]))
	}
	return client
}

// containing returns the first of the networks that contains a client. A network below
// 64:ff9b::/96 is compared with the address as it came.
func containing(networks []netip.Prefix, client netip.Addr) (netip.Prefix, bool) {
	canonical, plain := CanonicalClient(client), client.Unmap().WithZone("")
	for _, network := range networks {
		if network.Contains(canonical) || network.Contains(plain) {
			return network, true
		}
	}
	return netip.Prefix{}, false
}
