package directory

import (
	"crypto"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// gssapiClient is the client side of a SASL bind with the mechanism GSSAPI (RFC 4752) over
// Kerberos (RFC 4121). Both sides prove their identity, and that they hold the two ends of the
// same TLS connection (channel binding, RFC 5929), which controllers can be configured to
// require. It negotiates no security layer: the connection is encrypted already, and Active
// Directory rejects both at once.
type gssapiClient struct {
	ticket  ticket
	binding [md5.Size]byte // zero: none

	authTime      time.Time // of the client's authenticator, to the second
	authMicros    int
	sequence      uint64              // of the client's first wrap token
	key           types.EncryptionKey // for wrap tokens
	acceptorKey   bool                // the controller chose key
	authenticated bool                // the controller has proved its identity
	err           error               // the client's first error; the LDAP library wraps it
}

var _ ldap.GSSAPIClient = (*gssapiClient)(nil)

// Flags of a wrap token (RFC 4121 section 4.2.2).
const (
	fromAcceptor   = 1 << 0
	sealed         = 1 << 1
	acceptorSubkey = 1 << 2
)

// noLayer is the bit for no security layer (RFC 4752 section 3.3).
const noLayer = 1

// kerberosOID is the object identifier of the mechanism, in DER (RFC 4121 section 4.1).
var kerberosOID = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}

// InitSecContext runs one step: it sends the client's token, then verifies the controller's.
func (n *gssapiClient) InitSecContext(_ string, token []byte) ([]byte, bool, error) {
	if token == nil {
		out, err := n.apRequest()
		return out, true, n.recordError(err)
	}
	return nil, false, n.recordError(n.verifyReply(token))
}

// InitSecContextWithOptions is InitSecContext; there are no options.
func (n *gssapiClient) InitSecContextWithOptions(target string, token []byte, _ []int) ([]byte, bool, error) {
	return n.InitSecContext(target, token)
}

// DeleteSecContext does nothing: the keys live as long as the client.
func (n *gssapiClient) DeleteSecContext() error { return nil }

func (n *gssapiClient) recordError(err error) error {
	if err != nil && n.err == nil {
		n.err = err
	}
	return err
}

// apRequest returns the token that carries the ticket.
func (n *gssapiClient) apRequest() ([]byte, error) {
	auth, err := types.NewAuthenticator(n.ticket.realm, n.ticket.client)
	if err != nil {
		return nil, newError(ErrProtocol, "Kerberos: %w", err)
	}
	n.authTime, n.authMicros, n.sequence = auth.CTime.Truncate(time.Second), auth.Cusec, uint64(auth.SeqNumber)
	auth.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: n.checksum()}
	request, err := messages.NewAPReq(n.ticket.Ticket, n.ticket.key, auth)
	if err != nil {
		return nil, newError(ErrProtocol, "Kerberos: %w", err)
	}
	types.SetFlag(&request.APOptions, flags.APOptionMutualRequired)
	inner, err := request.Marshal()
	if err != nil {
		return nil, newError(ErrProtocol, "Kerberos: %w", err)
	}
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, Tag: 0, IsCompound: true,
		Bytes: slices.Concat(kerberosOID, []byte{1, 0}, inner)})
}

// checksum returns the field with the client's GSSAPI flags (RFC 4121 section 4.1.1). They
// request neither integrity nor confidentiality, because TLS provides both.
func (n *gssapiClient) checksum() []byte {
	out := binary.LittleEndian.AppendUint32(nil, md5.Size)
	out = append(out, n.binding[:]...)
	return binary.LittleEndian.AppendUint32(out, gssapi.ContextFlagMutual|gssapi.ContextFlagSequence)
}

// verifyReply verifies the controller's proof, which only the holder of its key can produce.
func (n *gssapiClient) verifyReply(token []byte) error {
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(token, &outer)
	body := byteReader{data: outer.Bytes}
	mechanism, kind := body.next(len(kerberosOID)), body.uint(2)
	if err != nil || len(rest) > 0 || outer.Class != asn1.ClassApplication || outer.Tag != 0 || body.truncated ||
		!slices.Equal(mechanism, kerberosOID) {
		return newError(ErrProtocol, "Kerberos: the controller's answer to the bind is not a token")
	}
	var reply messages.APRep
	if kind != 0x0200 || reply.Unmarshal(body.data) != nil {
		return newError(ErrProtocol, "Kerberos: the controller's answer to the bind does not prove its identity")
	}
	plain, err := decrypt(reply.EncPart, n.ticket.key, keyusage.AP_REP_ENCPART)
	var part messages.EncAPRepPart
	if err == nil {
		err = part.Unmarshal(plain)
	}
	if err != nil || !part.CTime.Equal(n.authTime) || part.Cusec != n.authMicros {
		return newError(ErrTLS, "the server cannot prove with Kerberos that it is the controller")
	}
	n.key, n.authenticated = n.ticket.key, true
	if len(part.Subkey.KeyValue) > 0 {
		n.key, n.acceptorKey = part.Subkey, true
	}
	if len(n.key.KeyValue) != keyLength[n.key.KeyType] {
		return newError(ErrProtocol, "Kerberos: the controller chose a key of type %d, which is not AES", n.key.KeyType)
	}
	return nil
}

// NegotiateSaslAuth is the last step: the controller offers security layers, and the client
// selects none.
func (n *gssapiClient) NegotiateSaslAuth(token []byte, _ string) ([]byte, error) {
	if !n.authenticated { // the order of steps in the library depends on what the controller sends
		return nil, n.recordError(newError(ErrProtocol, "Kerberos: the controller skips a step of the bind"))
	}
	offer, err := n.unwrap(token)
	if err != nil {
		return nil, n.recordError(err)
	}
	if len(offer) != 4 || offer[0]&noLayer == 0 {
		return nil, n.recordError(newError(ErrRefused, "the server requires signing or sealing inside TLS, "+
			"which Active Directory does not; use a password for this server"))
	}
	out, err := n.wrap([]byte{noLayer, 0, 0, 0})
	return out, n.recordError(err)
}

// unwrap returns the content of a wrap token of the controller (RFC 4121 section 4.2.6.2),
// which is not encrypted and may be rotated.
func (n *gssapiClient) unwrap(token []byte) ([]byte, error) {
	r := byteReader{data: token}
	id, kind, filler := r.uint(2), byte(r.uint(1)), r.uint(1)
	extra, rotation := int(r.uint(2)), int(r.uint(2))
	number := r.next(8)
	if r.truncated || id != 0x0504 || filler != 0xff || kind&fromAcceptor == 0 || kind&sealed != 0 ||
		kind&acceptorSubkey != 0 != n.acceptorKey || extra > len(r.data) {
		return nil, newError(ErrProtocol, "Kerberos: cannot read the controller's offer of security layers")
	}
	body := r.data
	if len(body) > 0 {
		cut := rotation % len(body)
		body = slices.Concat(body[cut:], body[:cut])
	}
	end := len(body) - extra
	w := gssapi.WrapToken{
		Flags: kind, SndSeqNum: binary.BigEndian.Uint64(number), Payload: body[:end:end], CheckSum: body[end:],
	}
	if genuine, err := w.Verify(n.key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil || !genuine {
		return nil, newError(ErrTLS, "the offer of security layers does not come from the authenticated controller")
	}
	return w.Payload, nil
}

// wrap returns a wrap token of the client.
func (n *gssapiClient) wrap(content []byte) ([]byte, error) {
	w := gssapi.WrapToken{SndSeqNum: n.sequence, Payload: content}
	if n.acceptorKey {
		w.Flags = acceptorSubkey
	}
	if err := w.SetCheckSum(n.key, keyusage.GSSAPI_INITIATOR_SEAL); err != nil {
		return nil, newError(ErrProtocol, "Kerberos: %w", err)
	}
	w.EC = uint16(len(w.CheckSum))
	out, err := w.Marshal()
	if err != nil {
		return nil, newError(ErrProtocol, "Kerberos: %w", err)
	}
	return out, nil
}

// channelBinding identifies the TLS connection by the server's certificate (RFC 5929 section
// 4), in the form that Kerberos hashes (RFC 4121 section 4.1.1.2).
func channelBinding(state tls.ConnectionState) (binding [md5.Size]byte) {
	if len(state.PeerCertificates) == 0 {
		return binding
	}
	certificate := state.PeerCertificates[0]
	hash := signatureHash(certificate.SignatureAlgorithm)
	if hash == 0 {
		return binding
	}
	h := hash.New()
	h.Write(certificate.Raw)
	data := h.Sum([]byte("tls-server-end-point:"))
	var addresses [16]byte // initiator's and acceptor's: none
	return md5.Sum(slices.Concat(addresses[:], binary.LittleEndian.AppendUint32(nil, uint32(len(data))), data))
}

// signatureHash returns the hash for the channel binding: the hash of the certificate's
// signature, or SHA-256 instead of a weak one. Zero means that the signature has no single hash.
func signatureHash(a x509.SignatureAlgorithm) crypto.Hash {
	switch a {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		return crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return crypto.SHA512
	}
	return 0
}
