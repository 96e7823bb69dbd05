package directory

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/go-ldap/ldap/v3"
)

// maxClear limits the answer to StartTLS, in bytes. The answers of Active Directory and Samba have
// less than 200.
const maxClear = 4 << 10

// startTLSRequest is an ExtendedRequest with message ID 1 (RFC 4511 section 4.14.1).
const startTLSRequest = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"

// Tags of the answer, and its message IDs.
const (
	tagInteger          = 0x02
	tagOctetString      = 0x04
	tagEnumerated       = 0x0a
	tagExtendedResponse = 0x78

	noticeID   = 0 // Notice of Disconnection (RFC 4511 section 4.4.1)
	startTLSID = 1
)

// startTLS requests StartTLS (RFC 4511 section 4.14). It reads exactly one message and not a
// byte more. Otherwise data that an attacker injects in clear after that message could later
// pass for an answer; unread, such data breaks the handshake.
func (c *Conn) startTLS() error {
	if _, err := io.WriteString(c.raw, startTLSRequest); err != nil {
		return newError(ErrUnreachable, "StartTLS: %w", err)
	}
	answer, err := readClear(c.raw)
	if err != nil {
		return err
	}
	id, result, ok := parseExtended(answer)
	switch {
	case !ok || id != startTLSID && id != noticeID:
		return newError(ErrProtocol, "StartTLS: the answer does not belong to this request")
	case result.ResultCode != ldap.LDAPResultSuccess:
		return newError(ErrTLS, "the controller rejects StartTLS (LDAP %d %s); check that it has a certificate",
			result.ResultCode, diagnostic(result))
	case id != startTLSID:
		return newError(ErrProtocol, "StartTLS: the answer does not belong to this request")
	}
	return nil
}

// readClear reads one LDAP message and returns its content. It does not use the BER library,
// because an attacker on the path can write anything before TLS.
func readClear(r io.Reader) ([]byte, error) {
	header := make([]byte, 2, 2+maxLengthBytes)
	if _, err := io.ReadFull(r, header[:1]); err != nil {
		return nil, newError(ErrProtocol, "StartTLS: no answer: %w", err)
	}
	switch header[0] {
	case recordAlert, recordHandshake:
		return nil, errTLSOnly
	case ldapMessage:
	default:
		return nil, newError(ErrProtocol, "StartTLS: the answer is not LDAP")
	}
	if _, err := io.ReadFull(r, header[1:]); err != nil {
		return nil, newError(ErrProtocol, "StartTLS: the answer is incomplete: %w", err)
	}
	more := lengthBytes(header[1])
	if more > maxLengthBytes {
		return nil, newError(ErrProtocol, "StartTLS: the answer is not LDAP")
	}
	header = header[:2+more]
	if _, err := io.ReadFull(r, header[2:]); err != nil {
		return nil, newError(ErrProtocol, "StartTLS: the answer is incomplete: %w", err)
	}
	n := contentLength(header)
	if len(header)+n > maxClear {
		return nil, newError(ErrProtocol, "StartTLS: the answer is longer than %d bytes", maxClear)
	}
	content := make([]byte, n)
	if _, err := io.ReadFull(r, content); err != nil {
		return nil, newError(ErrProtocol, "StartTLS: the answer is incomplete: %w", err)
	}
	return content, nil
}

// parseExtended parses the content of a message with an ExtendedResponse (RFC 4511 section 4.12).
func parseExtended(message []byte) (id int, result *ldap.Error, ok bool) {
	m := elements{rest: message}
	number := m.next(tagInteger)
	op := elements{rest: m.next(tagExtendedResponse), failed: m.failed}
	code := op.next(tagEnumerated)
	op.next(tagOctetString) // matchedDN
	text := op.next(tagOctetString)
	if op.failed || len(number) != 1 || len(code) != 1 {
		return 0, nil, false
	}
	return int(number[0]), &ldap.Error{ResultCode: uint16(code[0]), Err: errors.New(string(text))}, true
}

// elements are the elements of a BER value, read one by one.
type elements struct {
	rest   []byte
	failed bool // an element was missing, truncated, or had another tag
}

// next returns the content of the next element, which must have the tag.
func (e *elements) next(tag byte) []byte {
	if e.failed || len(e.rest) < 2 || e.rest[0] != tag {
		e.failed = true
		return nil
	}
	more := lengthBytes(e.rest[1])
	if more > maxLengthBytes || len(e.rest) < 2+more {
		e.failed = true
		return nil
	}
	header := 2 + more
	n := contentLength(e.rest[:header])
	if n > len(e.rest)-header {
		e.failed = true
		return nil
	}
	content := e.rest[header : header+n]
	e.rest = e.rest[header+n:]
	return content
}

// maxLengthBytes limits the bytes after the first one of a length. Active Directory always sends
// four of them.
const maxLengthBytes = 4

// lengthBytes returns the number of bytes that follow the first byte of a definite length (X.690
// section 8.1.3). It exceeds maxLengthBytes if the length is indefinite, which LDAP does not allow
// (RFC 4511 section 5.1).
func lengthBytes(first byte) int {
	switch {
	case first < 0x80:
		return 0
	case first == 0x80:
		return maxLengthBytes + 1
	}
	return int(first & 0x7f)
}

// contentLength returns the length in a complete header of at most 2+maxLengthBytes bytes.
func contentLength(header []byte) int {
	if len(header) == 2 {
		return int(header[1])
	}
	var b [4]byte
	copy(b[len(b)-len(header[2:]):], header[2:])
	return int(binary.BigEndian.Uint32(b[:]))
}
