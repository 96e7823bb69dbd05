package policy

import "net/netip"

// translated is the prefix through which IPv6-only networks see hosts of the IPv4 internet
// (RFC 6052 section 2.1). As IPv6 addresses they would all be in one network.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// CanonicalClient returns the address of a client in the form in which networks are
// compared: IPv4-mapped and translated addresses as IPv4, without a zone.
func CanonicalClient(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	if translated.Contains(client) {
		long := client.As16()
		return netip.AddrFrom4([4]byte(long[12:]))
	}
	return client
}

// ClientNetwork returns the network of a client, of a prefix length for IPv4 and one for
// IPv6. It reports false if the client has no IP address.
func ClientNetwork(client netip.Addr, ipv4, ipv6 int) (netip.Prefix, bool) {
	client = CanonicalClient(client)
	length := ipv6
	if client.Is4() {
		length = ipv4
	}
	network, err := client.Prefix(length)
	return network, err == nil && network.IsValid()
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
