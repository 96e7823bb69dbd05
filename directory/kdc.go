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

// kdc is the key distribution center of a realm as one client sees it: in Active
// Directory every domain controller, on port 88. It speaks Kerberos 5 (RFC 4120) over
// TCP, in the two steps that a bind needs: a ticket to get tickets with, and one for the
// LDAP service. The library's messages and ciphers are used without its client, which
// reads krb5.conf, cannot be interrupted, and turns every error into text.
//
// What a controller sends is not to be trusted before it has been decrypted: port 88 is
// not protected by TLS.
type kdc struct {
	address string // host:port
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	client  types.PrincipalName
	realm   string
	keys    []keytabKey
	config  *krbconfig.Config
}

// ticket is a ticket with what its owner needs to use it.
type ticket struct {
	messages.Ticket
	key    types.EncryptionKey // shared with the service
	client types.PrincipalName
	realm  string
}

// ticketLifetime is what Active Directory gives at most by default. At its end the
// controller may end the connection, and another ticket is got for the next one.
const ticketLifetime = 10 * time.Hour

// maxTicket bounds an answer of the KDC: a ticket lists the groups of the account.
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

// splitPrincipal divides name@REALM.
func splitPrincipal(principal string) (name, realm string) {
	at := strings.LastIndexByte(principal, '@')
	if at < 0 {
		return principal, ""
	}
	return principal[:at], principal[at+1:]
}

// exchange sends one message and gives the answer; a refusal is an error.
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
		return nil, newError(ErrProtocol, "the Kerberos server (%s): an answer of %d octets", k.address, size)
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

// serviceTicket gets a ticket for a service such as ldap/dc1.corp.example.
func (k *kdc) serviceTicket(ctx context.Context, service string) (ticket, error) {
	granting, err := k.requestTGT(ctx)
	if err != nil {
		return ticket{}, err
	}
	name := types.NewPrincipalName(nametype.KRB_NT_SRV_INST, service)
	request, err := messages.NewTGSReq(k.client, k.realm, k.config, granting.Ticket, granting.key, name, false)
	if err != nil {
		return ticket{}, newError(ErrProtocol, "Kerberos: %w", err)
	}
	message, err := request.Marshal()
	if err != nil {
		return ticket{}, newError(ErrProtocol, "Kerberos: %w", err)
	}
	answer, err := k.exchange(ctx, message)
	if err != nil {
		return ticket{}, err
	}
	var reply messages.TGSRep
	if err := reply.Unmarshal(answer); err != nil {
		return ticket{}, k.unreadableReply()
	}
	t, granted, err := k.decryptReply(reply.KDCRepFields, granting.key, keyusage.TGS_REP_ENCPART_SESSION_KEY, request.ReqBody.Nonce)
	if err != nil {
		return ticket{}, err
	}
	if !strings.EqualFold(granted, service) {
		return ticket{}, newError(ErrRefused, "Kerberos: a ticket for %s was asked for and one for %s given; the account has to be of the domain that the controller serves", service, granted)
	}
	return t, nil
}

// requestTGT gets the ticket to get tickets with, and so proves that the key is right.
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
	message, err := request.Marshal()
	if err != nil {
		return ticket{}, newError(ErrProtocol, "Kerberos: %w", err)
	}
	answer, err := k.exchange(ctx, message)
	if err != nil {
		return ticket{}, err
	}
	var reply messages.ASRep
	if err := reply.Unmarshal(answer); err != nil {
		return ticket{}, k.unreadableReply()
	}
	i := slices.IndexFunc(k.keys, func(key keytabKey) bool { return key.key.KeyType == reply.EncPart.EType })
	if i < 0 {
		return ticket{}, newError(ErrProtocol, "Kerberos: the controller answers with encryption type %d, which was not offered", reply.EncPart.EType)
	}
	t, granted, err := k.decryptReply(reply.KDCRepFields, k.keys[i].key, keyusage.AS_REP_ENCPART, request.ReqBody.Nonce)
	if err != nil {
		return ticket{}, err
	}
	if want := "krbtgt/" + k.realm; !strings.EqualFold(granted, want) {
		return ticket{}, newError(ErrProtocol, "Kerberos: a ticket for %s was asked for and one for %s given", want, granted)
	}
	return t, nil
}

// encryptedTimestamp is the time, encrypted with our key (RFC 4120 section 5.2.7.2).
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

// decryptReply decrypts the part of an answer that is for us, and tells whom the ticket is for.
func (k *kdc) decryptReply(reply messages.KDCRepFields, key types.EncryptionKey, usage uint32, nonce int) (ticket, string, error) {
	plain, err := decrypt(reply.EncPart, key, usage)
	var part messages.EncKDCRepPart
	if err == nil {
		err = part.Unmarshal(plain)
	}
	aes := len(part.Key.KeyValue) > 0 && len(part.Key.KeyValue) == keyLength[part.Key.KeyType]
	if err != nil || part.Nonce != nonce || !aes || len(reply.Ticket.SName.NameString) == 0 { // the library indexes the last
		return ticket{}, "", k.unreadableReply()
	}
	return ticket{Ticket: reply.Ticket, key: part.Key, client: k.client, realm: k.realm}, strings.Join(part.SName.NameString, "/"), nil
}

// unreadableReply is an answer that our key does not open, or that is none to our question.
func (k *kdc) unreadableReply() error {
	return newError(ErrProtocol, "the Kerberos server (%s): the answer cannot be read, or is not to this question", k.address)
}

// decrypt is the library's decryption without its panics: it takes for granted that a
// message is as long as one can be.
func decrypt(sealed types.EncryptedData, key types.EncryptionKey, usage uint32) ([]byte, error) {
	const confounder, hash = 16, 12 // octets, of both AES types (RFC 3962)
	if sealed.EType != key.KeyType || len(key.KeyValue) != keyLength[key.KeyType] || len(sealed.Cipher) <= confounder+hash {
		return nil, errors.New("not encrypted with the key that was asked for")
	}
	return crypto.DecryptEncPart(sealed, key, usage)
}

// krbError words an error of the KDC (RFC 4120 section 7.5.9). Which of them count as
// refused credentials is decided by whether trying again could lock the account.
func (k *kdc) krbError(e messages.KRBError) error {
	who := strings.Join(k.client.NameString, "/") + "@" + k.realm
	switch e.ErrorCode {
	case errorcode.KDC_ERR_PREAUTH_FAILED:
		return newError(ErrCredentials, "the key in the keytab (version %d) is not that of the account's password now; export the keytab again (Kerberos error 24)", k.keys[0].version)
	case errorcode.KDC_ERR_CLIENT_REVOKED:
		return newError(ErrCredentials, "the account %s is disabled, locked out or expired, or may not log on at this hour (Kerberos error 18)", who)
	case errorcode.KDC_ERR_KEY_EXPIRED:
		return newError(ErrCredentials, "the password of %s has expired; set a new one that does not expire, and export the keytab again (Kerberos error 23)", who)
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		return newError(ErrRefused, "the domain knows no account %s; correct bind.principal (Kerberos error 6)", who)
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		return newError(ErrRefused, "the domain %s does not know the controller as an LDAP service; is the account of the domain that it serves? (Kerberos error 7)", k.realm)
	case errorcode.KDC_ERR_WRONG_REALM:
		return newError(ErrRefused, "the controller does not serve the realm %s; name one of its own domain, or correct bind.principal (Kerberos error 68)", k.realm)
	case errorcode.KDC_ERR_ETYPE_NOSUPP:
		return newError(ErrRefused, "the account %s has no AES key in the domain; change its password once, and export the keytab again (Kerberos error 14)", who)
	case errorcode.KRB_AP_ERR_SKEW:
		return newError(ErrRefused, "the clock of this machine differs by %s from the controller's, and Kerberos allows five minutes; set it right (Kerberos error 37)", time.Since(e.STime).Abs().Round(time.Second))
	case errorcode.KDC_ERR_POLICY:
		return newError(ErrRefused, "a policy of the domain keeps %s from logging on here; see its logon workstations and authentication policy (Kerberos error 12)", who)
	}
	return newError(ErrRefused, "Kerberos error %d (%s)", e.ErrorCode, quote(e.EText))
}
