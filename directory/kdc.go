package directory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	krbconfig "github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// kdc is the key distribution center of a realm for one client: in Active Directory, every
// domain controller on port 88. It speaks Kerberos 5 (RFC 4120) over TCP, in the two steps that
// a bind needs: a ticket-granting ticket, and a ticket for the LDAP service. It uses the
// library's messages and ciphers but not its client, which reads krb5.conf, cannot be
// interrupted, and turns every error into text.
//
// An answer must not be trusted before it is decrypted: TLS does not protect port 88.
type kdc struct {
	address string // host:port
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	client  types.PrincipalName
	realm   string
	keys    []keytabKey
	config  *krbconfig.Config
}

// ticket is a ticket with the data that the client needs to use it.
type ticket struct {
	messages.Ticket
	key    types.EncryptionKey // shared with the service
	client types.PrincipalName
	realm  string
}

// ticketLifetime is the default maximum of Active Directory. When it ends, the controller may
// close the connection; the next connection gets a new ticket.
const ticketLifetime = 10 * time.Hour

// maxTicket limits an answer of the KDC: a ticket lists the groups of the account.
const maxTicket = 1 << 20

func newKDC(address string, config Config) (*kdc, error) {
	keys, err := readKeys(config.Keytab, config.Principal)
	if err != nil {
		return nil, err
	}
	name, realm := splitPrincipal(keys[0].principal)
	var ours []int32
	for _, k := range keys {
		ours = append(ours, k.key.KeyType)
	}
	return &kdc{address: address, dial: config.Dialer, keys: keys, realm: realm,
		client: types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, name),
		config: &krbconfig.Config{LibDefaults: krbconfig.LibDefaults{
			KDCDefaultOptions: types.NewKrbFlags(), NoAddresses: true, TicketLifetime: ticketLifetime,
			DefaultTktEnctypeIDs: ours, DefaultTGSEnctypeIDs: encTypes,
		}}}, nil
}

// splitPrincipal splits name@REALM.
func splitPrincipal(principal string) (name, realm string) {
	at := strings.LastIndexByte(principal, '@')
	if at < 0 {
		return principal, ""
	}
	return principal[:at], principal[at+1:]
}

// exchange sends one message and returns the answer. An error reply is an error.
func (k *kdc) exchange(ctx context.Context, message []byte) ([]byte, error) {
	conn, err := k.dial(ctx, "tcp", k.address)
	if err != nil {
		return nil, fmt.Errorf("the Kerberos server (%s): %w", k.address, dialError(err))
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
	answer := make([]byte, 4)
	if _, err = conn.Write(framed); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if size := binary.BigEndian.Uint32(answer); err == nil && size <= maxTicket {
		answer = make([]byte, size)
		_, err = io.ReadFull(conn, answer)
	} else if err == nil {
		return nil, newError(ErrProtocol, "the Kerberos server (%s): an answer of %d bytes is too long", k.address,
			size)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("the Kerberos server (%s): %w", k.address, contextError(ctx))
	}
	if err != nil {
		return nil, newError(ErrUnreachable, "the Kerberos server (%s): the connection was lost: %w", k.address, err)
	}
	var refusal messages.KRBError
	if refusal.Unmarshal(answer) == nil {
		return nil, k.krbError(refusal)
	}
	return answer, nil
}

// serviceTicket requests a ticket for a service such as ldap/dc1.corp.example.
func (k *kdc) serviceTicket(ctx context.Context, service string) (ticket, error) {
	tgt, err := k.requestTGT(ctx)
	if err != nil {
		return ticket{}, err
	}
	name := types.NewPrincipalName(nametype.KRB_NT_SRV_INST, service)
	request, err := messages.NewTGSReq(k.client, k.realm, k.config, tgt.Ticket, tgt.key, name, false)
	if err != nil {
		return ticket{}, newError(ErrProtocol, "Kerberos: %w", err)
	}
	var reply messages.TGSRep
	if err := k.ask(ctx, &request, &reply); err != nil {
		return ticket{}, err
	}
	t, granted, err := k.decryptReply(reply.KDCRepFields, tgt.key, keyusage.TGS_REP_ENCPART_SESSION_KEY,
		request.ReqBody.Nonce)
	if err != nil {
		return ticket{}, err
	}
	if !strings.EqualFold(granted, service) {
		return ticket{}, newError(ErrRefused, "Kerberos: asked for a ticket for %s, got one for %s; the account must "+
			"belong to the domain that the controller serves", service, granted)
	}
	return t, nil
}

// ask sends a request and reads the reply.
func (k *kdc) ask(ctx context.Context, request interface{ Marshal() ([]byte, error) },
	reply interface{ Unmarshal([]byte) error }) error {
	message, err := request.Marshal()
	if err != nil {
		return newError(ErrProtocol, "Kerberos: %w", err)
	}
	answer, err := k.exchange(ctx, message)
	if err != nil {
		return err
	}
	if reply.Unmarshal(answer) != nil {
		return k.unreadableReply()
	}
	return nil
}

// requestTGT requests the ticket-granting ticket, which proves that the key is right.
func (k *kdc) requestTGT(ctx context.Context) (ticket, error) {
	request, err := messages.NewASReqForTGT(k.realm, k.config, k.client)
	if err != nil {
		return ticket{}, newError(ErrProtocol, "Kerberos: %w", err)
	}
	proof, err := k.encryptedTimestamp()
	if err != nil {
		return ticket{}, newError(ErrProtocol, "Kerberos: %w", err)
	}
	request.PAData = append(request.PAData, types.PAData{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: proof})
	var reply messages.ASRep
	if err := k.ask(ctx, &request, &reply); err != nil {
		return ticket{}, err
	}
	i := slices.IndexFunc(k.keys, func(key keytabKey) bool { return key.key.KeyType == reply.EncPart.EType })
	if i < 0 {
		return ticket{}, newError(ErrProtocol, "Kerberos: the controller answers with encryption type %d, "+
			"which was not offered", reply.EncPart.EType)
	}
	t, granted, err := k.decryptReply(reply.KDCRepFields, k.keys[i].key, keyusage.AS_REP_ENCPART, request.ReqBody.Nonce)
	if err != nil {
		return ticket{}, err
	}
	if want := "krbtgt/" + k.realm; !strings.EqualFold(granted, want) {
		return ticket{}, newError(ErrProtocol, "Kerberos: asked for a ticket for %s, got one for %s", want, granted)
	}
	return t, nil
}

// encryptedTimestamp returns the time encrypted with the client's key (RFC 4120 section 5.2.7.2).
func (k *kdc) encryptedTimestamp() ([]byte, error) {
	now, err := types.GetPAEncTSEncAsnMarshalled()
	if err != nil {
		return nil, err
	}
	sealed, err := crypto.GetEncryptedData(now, k.keys[0].key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, 0)
	if err != nil {
		return nil, err
	}
	return sealed.Marshal()
}

// decryptReply decrypts the client's part of an answer. It returns the ticket and the service
// that it is for.
func (k *kdc) decryptReply(
	reply messages.KDCRepFields, key types.EncryptionKey, usage uint32, nonce int,
) (ticket, string, error) {
	plain, err := decrypt(reply.EncPart, key, usage)
	var part messages.EncKDCRepPart
	if err == nil {
		err = part.Unmarshal(plain)
	}
	aes := len(part.Key.KeyValue) > 0 && len(part.Key.KeyValue) == keyLength[part.Key.KeyType]
	// The library indexes the last component of the name, so there must be one.
	if err != nil || part.Nonce != nonce || !aes || len(reply.Ticket.SName.NameString) == 0 {
		return ticket{}, "", k.unreadableReply()
	}
	t := ticket{Ticket: reply.Ticket, key: part.Key, client: k.client, realm: k.realm}
	return t, strings.Join(part.SName.NameString, "/"), nil
}

// unreadableReply is the error for an answer that the client's key does not decrypt, or that
// does not belong to the request.
func (k *kdc) unreadableReply() error {
	return newError(ErrProtocol, "the Kerberos server (%s): cannot read the answer, or it does not belong to the "+
		"request",
		k.address)
}

// decrypt calls the library's decryption only with input that does not make it panic: the
// library does not check the length of a message.
func decrypt(sealed types.EncryptedData, key types.EncryptionKey, usage uint32) ([]byte, error) {
	const confounder, hash = 16, 12 // bytes, of both AES types (RFC 3962)
	if sealed.EType != key.KeyType || len(key.KeyValue) != keyLength[key.KeyType] ||
		len(sealed.Cipher) <= confounder+hash {
		return nil, errors.New("not encrypted with the requested key")
	}
	return crypto.DecryptEncPart(sealed, key, usage)
}

// krbError explains an error of the KDC (RFC 4120 section 7.5.9). An error about the account or its
// key is ErrForgeable: retrying could lock the account, but nothing proves that the error is the
// KDC's.
func (k *kdc) krbError(e messages.KRBError) error {
	account := strings.Join(k.client.NameString, "/") + "@" + k.realm
	switch e.ErrorCode {
	case errorcode.KDC_ERR_PREAUTH_FAILED:
		return newError(ErrForgeable, "the key in the keytab (version %d) does not match the account's current "+
			"password; export the keytab again (Kerberos error 24)", k.keys[0].version)
	case errorcode.KDC_ERR_CLIENT_REVOKED:
		return newError(ErrForgeable, "the account %s is disabled, locked out or expired, or may not log on at this "+
			"hour (Kerberos error 18)", account)
	case errorcode.KDC_ERR_KEY_EXPIRED:
		return newError(ErrForgeable, "the password of %s has expired; set a new one that does not expire, and "+
			"export "+
			"the keytab again (Kerberos error 23)", account)
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		return newError(ErrRefused, "the domain has no account %s; correct bind.principal (Kerberos error 6)", account)
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		return newError(ErrRefused, "the domain %s does not know the controller as an LDAP service; use an account of "+
			"the domain that the controller serves (Kerberos error 7)", k.realm)
	case errorcode.KDC_ERR_WRONG_REALM:
		return newError(ErrRefused, "the controller does not serve the realm %s; use a controller of that realm, or "+
			"correct bind.principal (Kerberos error 68)", k.realm)
	case errorcode.KDC_ERR_ETYPE_NOSUPP:
		return newError(ErrRefused, "the account %s has no AES key in the domain; change its password once, and "+
			"export "+
			"the keytab again (Kerberos error 14)", account)
	case errorcode.KRB_AP_ERR_SKEW:
		return newError(ErrRefused, "the clock of this machine differs by %s from the controller's, and Kerberos "+
			"allows "+
			"five minutes; correct it (Kerberos error 37)", time.Since(e.STime).Abs().Round(time.Second))
	case errorcode.KDC_ERR_POLICY:
		return newError(ErrRefused, "a policy of the domain does not let %s log on here; check its logon workstations "+
			"and authentication policy (Kerberos error 12)", account)
	}
	return newError(ErrRefused, "Kerberos error %d (%s)", e.ErrorCode, quote(e.EText))
}
