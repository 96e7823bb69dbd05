package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// WellKnownNAT64 is the prefix that IPv6-only networks usually use for hosts of the IPv4 internet (RFC 6052
// section 2.1). Without translation, all these hosts would be in one IPv6 network.
var WellKnownNAT64 = netip.MustParsePrefix("64:ff9b::/96")

// CheckNAT64 returns an error unless IPv4 addresses can be embedded below prefix. RFC 6052 section 2.2 permits
// six lengths.
func CheckNAT64(prefix netip.Prefix) error {
	if !prefix.Addr().Is6() || prefix.Addr().Is4In6() || prefix != prefix.Masked() ||
		!slices.Contains([]int{32, 40, 48, 56, 64, 96}, prefix.Bits()) {
		return fmt.Errorf("%s is not an IPv6 network of /32, /40, /48, /56, /64 or /96", prefix)
	}
	return nil
}

// Translators are the NAT64 prefixes of a network. A client below one of them counts as the IPv4 address
// embedded in its address. The zero value translates only IPv4-mapped addresses.
type Translators []netip.Prefix

// Canonical returns the address of a client in the form that is compared with networks. IPv4-mapped and
// translated addresses become IPv4 addresses, and the zone is removed.
func (t Translators) Canonical(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	for _, prefix := range t {
		if prefix.Contains(client) {
			return embedded(client, prefix.Bits())
		}
	}
	return client
}

// embedded returns the IPv4 address embedded in an IPv6 address after a prefix of the given length. Byte 8 is
// reserved and not part of the IPv4 address (RFC 6052 section 2.2).
func embedded(client netip.Addr, length int) netip.Addr {
	const reserved = 8
	long := client.As16()
	var short [4]byte
	for i, at := 0, length/8; i < len(short); at++ {
		if at != reserved {
			short[i] = long[at]
			i++
		}
	}
	return netip.AddrFrom4(short)
}

// Network returns the network of a client, with the prefix length ipv4 or ipv6. It reports false if the client
// has no IP address.
func (t Translators) Network(client netip.Addr, ipv4, ipv6 int) (netip.Prefix, bool) {
	client = t.Canonical(client)
	length := ipv6
	if client.Is4() {
		length = ipv4
	}
	network, err := client.Prefix(length)
	return network, err == nil && network.IsValid()
}

// containing returns the first network that contains a client. A network below a NAT64 prefix is compared with
// the untranslated address.
func (t Translators) containing(networks []netip.Prefix, client netip.Addr) (netip.Prefix, bool) {
	canonical, plain := t.Canonical(client), client.Unmap().WithZone("")
	for _, network := range networks {
		if network.Contains(canonical) || network.Contains(plain) {
			return network, true
		}
	}
	return netip.Prefix{}, false
}
