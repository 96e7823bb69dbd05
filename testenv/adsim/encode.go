package adsim

// Answers are encoded by hand into one buffer: a tree of packets would copy each byte of a page
// of a thousand entries once per level.

// Tags of RFC 4511 as bytes on the wire: class, constructed bit and number.
const (
	tagBoolean     = 0x01
	tagInteger     = 0x02
	tagOctetString = 0x04
	tagEnumerated  = 0x0a
	tagSequence    = 0x30
	tagSet         = 0x31

	tagBindResponse     = 0x61
	tagSearchEntry      = 0x64
	tagSearchDone       = 0x65
	tagSearchReference  = 0x73
	tagExtendedResponse = 0x78
	tagControls         = 0xa0
	tagReferral         = 0xa3
	tagResponseName     = 0x8a
)

// tlv encodes one element: tag, length and contents.
func tlv(tag byte, contents ...[]byte) []byte {
	n := 0
	for _, c := range contents {
		n += len(c)
	}
	out := make([]byte, 0, n+6)
	out = append(out, tag)
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	for _, c := range contents {
		out = append(out, c...)
	}
	return out
}

func octetString(s string) []byte { return tlv(tagOctetString, []byte(s)) }

// integer encodes a non-negative number.
func integer(tag byte, v int64) []byte {
	var b [9]byte
	i := len(b) - 1
	for b[i] = byte(v); v > 0x7f; b[i] = byte(v) {
		v >>= 8
		i--
	}
	return tlv(tag, b[i:])
}

// message encodes an operation and its controls.
func message(id int64, op []byte, controls ...[]byte) []byte {
	if len(controls) == 0 {
		return tlv(tagSequence, integer(tagInteger, id), op)
	}
	return tlv(tagSequence, integer(tagInteger, id), op, tlv(tagControls, controls...))
}

// result encodes an LDAPResult (RFC 4511 section 4.1.9).
func result(tag byte, code int, diagnostic string, extra ...[]byte) []byte {
	parts := [][]byte{integer(tagEnumerated, int64(code)), octetString(""), octetString(diagnostic)}
	return tlv(tag, append(parts, extra...)...)
}

// referralResult encodes a result with code referral and a URL.
func referralResult(url string) []byte {
	return result(tagSearchDone, 10, "0000202B: RefErr: DSID-0310082F, data 0, 1 access points",
		tlv(tagReferral, octetString(url)))
}

// pagingControl encodes the answer to a paged search (RFC 2696).
func pagingControl(cookie string) []byte {
	value := tlv(tagSequence, integer(tagInteger, 0), octetString(cookie))
	return tlv(tagSequence, octetString(oidPaging), tlv(tagOctetString, value))
}

// attribute encodes a PartialAttribute.
func attribute(name string, values []string) []byte {
	encoded := make([][]byte, len(values))
	for i, v := range values {
		encoded[i] = octetString(v)
	}
	return tlv(tagSequence, octetString(name), tlv(tagSet, encoded...))
}
