package directory

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	krbasn1 "github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	krbcrypto "github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"rcpt-milter/testenv/adsim"
)

const (
	realmName = "CORP.EXAMPLE"
	service   = "ldap/dc1.corp.example"
)

// realm is a key distribution center and the service that its tickets are for. Its
// fields make it misbehave.
type realm struct {
	t       *testing.T
	keys    *keytab.Keytab // of krbtgt, the service and the client
	address string

	mu       sync.Mutex
	asked    int
	refuse   map[int]int32                // error code for the question of this number, counted from 1
	garble   func(n int, b []byte) []byte // changes the answer to the question of this number
	etype    int32                        // of session keys; 0: the strongest
	subkey   bool                         // the acceptor chooses a key of its own
	rotation uint16                       // of its wrap token
	offer    []byte                       // its security layers
	proof    func(*messages.EncAPRepPart)
	seen     *types.Authenticator // of the last bind
	chosen   []byte               // what the client chose of the layers
}

// realmKeys are the keys of all realms; to make one of a password takes a while.
var realmKeys = sync.OnceValues(func() (*keytab.Keytab, error) {
	keys := keytab.New()
	for _, name := range []string{"krbtgt/" + realmName, service, "svc-mail"} {
		for _, etype := range encTypes {
			if err := keys.AddEntry(name, realmName, "secret of "+name, time.Unix(1e9, 0), 3, etype); err != nil {
				return nil, err
			}
		}
	}
	return keys, nil
})

func newRealm(t *testing.T) *realm {
	t.Helper()
	r := &realm{t: t, keys: must[*keytab.Keytab](t)(realmKeys()), offer: []byte{7, 0, 0xff, 0xff}}
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	r.address = l.Addr().String()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return r
}

func (r *realm) serve(conn net.Conn) {
	defer conn.Close()
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return
	}
	question := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return
	}
	r.mu.Lock()
	r.asked++
	n := r.asked
	r.mu.Unlock()
	answer, err := r.answer(n, question)
	if err != nil {
		r.t.Errorf("KDC: %v", err)
		return
	}
	framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)
	if r.garble != nil {
		framed = r.garble(n, framed)
	}
	conn.Write(framed)
}

func (r *realm) answer(n int, question []byte) ([]byte, error) {
	if code := r.refuse[n]; code != 0 {
		return r.refusal(code)
	}
	var as messages.ASReq
	if as.Unmarshal(question) == nil {
		return r.logOn(as)
	}
	var tgs messages.TGSReq
	if err := tgs.Unmarshal(question); err != nil {
		return nil, err
	}
	return r.grant(tgs)
}

func (r *realm) refusal(code int32) ([]byte, error) {
	e := messages.NewKRBError(types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "krbtgt/"+realmName), realmName, code,
		"some\x00 text")
	e.STime = e.STime.Add(-time.Hour).Truncate(time.Second)
	return e.Marshal()
}

// logOn checks the encrypted time and gives the first ticket.
func (r *realm) logOn(q messages.ASReq) ([]byte, error) {
	key, _, err := r.keys.GetEncryptionKey(q.ReqBody.CName, q.ReqBody.Realm, 0, q.ReqBody.EType[0])
	if err != nil {
		return r.refusal(6)
	}
	var stamp types.EncryptedData
	if err := stamp.Unmarshal(q.PAData[0].PADataValue); err != nil {
		return nil, err
	}
	if _, err := krbcrypto.DecryptEncPart(stamp, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP); err != nil {
		return r.refusal(24)
	}
	reply := messages.ASRep{}
	reply.MsgType = 11
	return r.reply(&reply.KDCRepFields, q.ReqBody, key, keyusage.AS_REP_ENCPART, reply.Marshal)
}

// grant gives a ticket for the service.
func (r *realm) grant(q messages.TGSReq) ([]byte, error) {
	var request messages.APReq
	if err := request.Unmarshal(q.PAData[0].PADataValue); err != nil {
		return nil, err
	}
	if err := request.Ticket.DecryptEncPart(r.keys, nil); err != nil {
		return nil, err
	}
	key := request.Ticket.DecryptedEncPart.Key
	if err := request.DecryptAuthenticator(key); err != nil {
		return nil, err
	}
	reply := messages.TGSRep{}
	reply.MsgType = 13
	q.ReqBody.CName = request.Ticket.DecryptedEncPart.CName
	return r.reply(&reply.KDCRepFields, q.ReqBody, key, keyusage.TGS_REP_ENCPART_SESSION_KEY, reply.Marshal)
}

// reply fills in the answer that both questions get, and encodes it.
func (r *realm) reply(
	out *messages.KDCRepFields, q messages.KDCReqBody, key types.EncryptionKey, usage uint32,
	encode func() ([]byte, error),
) ([]byte, error) {
	etype, now := r.etype, time.Now().UTC().Truncate(time.Second)
	if etype == 0 {
		etype = encTypes[0]
	}
	t, session, err := messages.NewTicket(q.CName, realmName, q.SName, realmName, types.NewKrbFlags(), r.keys, etype,
		3, now, now, now.Add(time.Hour), now)
	if err != nil {
		return r.refusal(7)
	}
	part := messages.EncKDCRepPart{Key: session, LastReqs: []messages.LastReq{{LRValue: now}}, Nonce: q.Nonce,
		Flags: types.NewKrbFlags(), AuthTime: now, EndTime: now.Add(time.Hour), SRealm: realmName, SName: q.SName}
	plain, err := part.Marshal()
	if err != nil {
		return nil, err
	}
	out.PVNO, out.CRealm, out.CName, out.Ticket = 5, realmName, q.CName, t
	if out.EncPart, err = krbcrypto.GetEncryptedData(plain, key, usage, 9); err != nil {
		return nil, err
	}
	return encode()
}

// accept is the service's side of a bind.
func (r *realm) accept(certificate *x509.Certificate) adsim.Acceptor {
	step, key := 0, types.EncryptionKey{}
	return func(credentials []byte) (answer []byte, done bool, err error) {
		switch step++; step {
		case 1:
			answer, key, err = r.introduce(credentials)
			return answer, false, err
		case 2:
			return r.wrapped(key), false, nil
		}
		return nil, true, r.conclude(credentials, key)
	}
}

// introduce checks the client's ticket and proves who we are.
func (r *realm) introduce(token []byte) ([]byte, types.EncryptionKey, error) {
	none := types.EncryptionKey{}
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(token, &outer); err != nil {
		return nil, none, err
	}
	inner, found := bytes.CutPrefix(outer.Bytes, append(slices.Clone(kerberosOID), 1, 0))
	var request messages.APReq
	if err := request.Unmarshal(inner); err != nil || !found {
		return nil, none, fmt.Errorf("not an AP-REQ: %v", err)
	}
	if err := request.Ticket.DecryptEncPart(r.keys, nil); err != nil {
		return nil, none, err
	}
	session := request.Ticket.DecryptedEncPart.Key
	if err := request.DecryptAuthenticator(session); err != nil {
		return nil, none, err
	}
	r.seen = &request.Authenticator
	part := messages.EncAPRepPart{CTime: r.seen.CTime, Cusec: r.seen.Cusec, SequenceNumber: 77}
	key := session
	if r.subkey {
		key = types.EncryptionKey{KeyType: etypeID.AES128_CTS_HMAC_SHA1_96, KeyValue: []byte("0123456789abcdef")}
		part.Subkey = key
	}
	if r.proof != nil {
		r.proof(&part)
	}
	plain, err := krbasn1.Marshal(part)
	if err != nil {
		return nil, none, err
	}
	sealed, err := krbcrypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, 27), session, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		return nil, none, err
	}
	reply, err := krbasn1.Marshal(messages.APRep{PVNO: 5, MsgType: 15, EncPart: sealed})
	if err != nil {
		return nil, none, err
	}
	return tokenOf(0x0200, asn1tools.AddASNAppTag(reply, 15)), key, nil
}

func tokenOf(kind uint16, inner []byte) []byte {
	b, _ := asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, IsCompound: true,
		Bytes: slices.Concat(kerberosOID, binary.BigEndian.AppendUint16(nil, kind), inner)})
	return b
}

// wrapped is the offer of security layers, rotated as RFC 4121 section 4.2.5 allows.
func (r *realm) wrapped(key types.EncryptionKey) []byte {
	w := gssapi.WrapToken{Flags: fromAcceptor, SndSeqNum: 77, Payload: r.offer}
	if r.subkey {
		w.Flags |= acceptorSubkey
	}
	ok(r.t, w.SetCheckSum(key, keyusage.GSSAPI_ACCEPTOR_SEAL))
	w.EC, w.RRC = uint16(len(w.CheckSum)), r.rotation
	b := must[[]byte](r.t)(w.Marshal())
	body := b[gssapi.HdrLen:]
	cut := len(body) - int(r.rotation)%len(body)
	return slices.Concat(b[:gssapi.HdrLen], body[cut:], body[:cut])
}

// conclude looks at what the client chose.
func (r *realm) conclude(token []byte, key types.EncryptionKey) error {
	var w gssapi.WrapToken
	if err := w.Unmarshal(token, false); err != nil {
		return err
	}
	if genuine, err := w.Verify(key, keyusage.GSSAPI_INITIATOR_SEAL); err != nil || !genuine {
		return errors.Join(errors.New("the last token is not from the client"), err)
	}
	if w.SndSeqNum != uint64(r.seen.SeqNumber) || w.Flags&acceptorSubkey != 0 != r.subkey {
		return fmt.Errorf("wrap token %+v does not go with authenticator %+v", w, r.seen)
	}
	r.chosen = w.Payload
	return nil
}

// config fits a server of the simulated directory, and leads port 88 to the realm.
func (r *realm) config(s *adsim.Server) Config {
	c := configFor(r.t, s)
	c.BindDN, c.Password = "", nil
	c.Keytab, c.Principal = r.keytab("svc-mail"), "svc-mail@corp.example"
	c.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasSuffix(address, ":88") {
			address = r.address
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return c
}

// keytab writes a file with the keys that a principal has here.
func (r *realm) keytab(principal string) string {
	r.t.Helper()
	out := keytab.New()
	for _, e := range r.keys.Entries {
		if strings.Join(e.Principal.Components, "/") == principal {
			out.Entries = append(out.Entries, e)
		}
	}
	path := filepath.Join(r.t.TempDir(), "test.keytab")
	ok(r.t, os.WriteFile(path, must[[]byte](r.t)(out.Marshal()), 0o600))
	return path
}
