package stream

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
	"rcpt-milter/store"
)

// payloadVersion is the version of the messages. A reader ignores unknown fields. The version changes only if
// an older reader would misunderstand a message.
const payloadVersion = 1

// Limits of one message. Active Directory allows about 1,300 values per attribute.
const (
	maxPayload   = 1 << 20  // bytes on the wire
	maxPlain     = 16 << 20 // bytes of a compressed message after expansion
	compressOver = 64 << 10 // bytes; larger messages of objects are compressed
	maxAddresses = 100_000  // of one object
	maxText      = 4096     // bytes of a name or another text
)

// errPayload reports a message that cannot be read. It proves nothing about its object.
var errPayload = errors.New("message cannot be read")

// errTooLarge reports an object that does not fit in a message.
var errTooLarge = errors.New("object is too large")

// defaultAttribute is the attribute of addresses without one.
const defaultAttribute = "proxyaddresses"

// objectMessage is the message of one object. It repeats its subject, because an edge can make the engine
// deliver a genuine message to another subject. There, the message must prove nothing.
type objectMessage struct {
	Version   int                 `json:"v"`
	Subject   string              `json:"subject"` // names directory, kind and GUID
	Class     string              `json:"class,omitempty"`
	DN        string              `json:"dn,omitempty"`
	Addresses map[string][]string `json:"addresses,omitempty"` // by attribute
	Internal  []string            `json:"internal,omitempty"`  // the internal-only ones of Addresses
	TooLarge  bool                `json:"too_large,omitempty"` // its addresses do not fit in a message
}

// encodeObject returns the message of an object, of at most limit bytes. It includes the name of the object
// only if names is set.
func encodeObject(dir string, o store.FeedObject, names bool, limit int) ([]byte, error) {
	m := objectMessage{Version: payloadVersion, Subject: objectSubject(dir, o.GUID), Class: printable(o.Class, maxText)}
	if names {
		m.DN = printable(o.DN, maxText) // a name may have control characters, such as a tab
	}
	for _, a := range o.Addresses {
		if m.Addresses == nil {
			m.Addresses = map[string][]string{}
		}
		text := a.Address.String()
		// A withheld address that the object has lost has no attribute, but readers require one.
		attribute := cmp.Or(a.Attribute, defaultAttribute)
		m.Addresses[attribute] = append(m.Addresses[attribute], text)
		if a.InternalOnly {
			m.Internal = append(m.Internal, text)
		}
	}
	if len(o.Addresses) > maxAddresses {
		return nil, fmt.Errorf("%w: object %s has %d addresses; the limit is %d", errTooLarge, directory.GUID(o.GUID),
			len(o.Addresses), maxAddresses)
	}
	data, err := json.Marshal(m)
	if err == nil && len(data) > compressOver && len(data) <= maxPlain {
		data, err = compress(data)
	}
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%w: the message of object %s with %d addresses has %d bytes; the limit is %d", errTooLarge,
			directory.GUID(o.GUID), len(o.Addresses), len(data), limit)
	}
	return data, err
}

// encodeTooLarge returns the message of an object that does not fit in a message. To a reader, its addresses
// are unknown.
func encodeTooLarge(dir string, guid store.GUID) ([]byte, error) {
	return json.Marshal(objectMessage{Version: payloadVersion, Subject: objectSubject(dir, guid), TooLarge: true})
}

// decodeObject parses the message of an object. It fails if any part is invalid, because an address that it
// skipped would count as lost.
func decodeObject(dir string, guid store.GUID, data []byte) (store.FeedObject, error) {
	o := store.FeedObject{GUID: guid}
	var m objectMessage
	data, err := expand(data)
	if err != nil {
		return o, err
	}
	if err := unmarshal(data, &m); err != nil {
		return o, err
	}
	if err := checkVersion(m.Version); err != nil {
		return o, err
	}
	if err := checkSubject(m.Subject, objectSubject(dir, guid)); err != nil {
		return o, err
	}
	if m.TooLarge {
		return o, fmt.Errorf("%w: the %w to be published; see the log of the hub", errPayload, errTooLarge)
	}
	if !validText(m.Class) || !validText(m.DN) {
		return o, fmt.Errorf("%w: a name is too long or has control characters", errPayload)
	}
	o.Class, o.DN = m.Class, m.DN
	return o, m.addAddresses(&o)
}

// addAddresses parses the addresses of a message into o, in no particular order.
func (m *objectMessage) addAddresses(o *store.FeedObject) error {
	internal := make(map[string]bool, len(m.Internal))
	for _, text := range m.Internal {
		internal[text] = true
	}
	seen := map[address.Address]bool{}
	for _, attribute := range sortedKeys(m.Addresses) {
		if attribute == "" || !validText(attribute) {
			return fmt.Errorf("%w: the name of an attribute is not valid", errPayload)
		}
		for _, text := range m.Addresses[attribute] {
			a, err := address.Parse(text)
			switch {
			case err != nil:
				return fmt.Errorf("%w: %w", errPayload, err)
			case a.String() != text:
				return fmt.Errorf("%w: address %.100q is not in canonical form", errPayload, text)
			case seen[a]:
				return fmt.Errorf("%w: address %.100q occurs twice", errPayload, text)
			case len(seen) == maxAddresses:
				return fmt.Errorf("%w: more than %d addresses", errPayload, maxAddresses)
			}
			seen[a] = true
			o.Addresses = append(o.Addresses, store.FeedAddress{Address: a, Attribute: attribute,
				InternalOnly: internal[text]})
			delete(internal, text)
		}
	}
	if len(internal) > 0 {
		return fmt.Errorf("%w: an internal-only address is not among the addresses", errPayload)
	}
	return nil
}

// state is the message of a hub at the end of a pass.
type state struct {
	Generation directory.GUID
	Mark       string // unique to this state
	Term       string // identifies the period in which one hub held the lease
	Hub        string
	Version    string
	Controller string
	Age        time.Duration // of the last good pass, at the time of publication
	AgeUnknown bool
	Pass       uint64
	Digest     store.Digest
	Sequence   uint64 // position of the state in the stream
	Changed    uint64 // sequence of the last state that followed changed objects; 0 means unknown
}

// stateMessage is the message of a state. It repeats its subject and its position in the stream, so a copy of
// it, or a state of another directory, ends no pass.
type stateMessage struct {
	Version    int      `json:"v"`
	Subject    string   `json:"subject"`
	Sequence   uint64   `json:"sequence"`
	Generation string   `json:"generation"`
	Mark       string   `json:"mark"`
	Term       string   `json:"term,omitempty"`
	Hub        string   `json:"hub"`
	Program    string   `json:"program,omitempty"`
	Controller string   `json:"controller,omitempty"`
	AgeS       *float64 `json:"age_s"` // null means unknown, for example because of the clock of the hub
	Pass       uint64   `json:"pass"`
	Objects    uint64   `json:"objects"`
	Addresses  uint64   `json:"addresses"`
	Digest     string   `json:"digest"`
	Changed    uint64   `json:"changed,omitempty"`
}

func (s state) encode(dir string) ([]byte, error) {
	m := stateMessage{Version: payloadVersion, Subject: stateSubject(dir), Sequence: s.Sequence, Mark: s.Mark,
		Term: s.Term, Hub: s.Hub, Program: s.Version, Controller: s.Controller, Pass: s.Pass,
		Objects: s.Digest.Objects, Addresses: s.Digest.Addresses, Changed: s.Changed,
		Generation: hex.EncodeToString(s.Generation[:]), Digest: hex.EncodeToString(s.Digest.Sum[:])}
	if !s.AgeUnknown {
		age := max(s.Age, 0).Seconds()
		m.AgeS = &age
	}
	return json.Marshal(m)
}

// decodeState parses the state of a directory at a position of its stream.
func decodeState(dir string, sequence uint64, data []byte) (state, error) {
	var m stateMessage
	if err := decode(data, &m); err != nil {
		return state{}, err
	}
	if err := checkVersion(m.Version); err != nil {
		return state{}, err
	}
	if err := checkSubject(m.Subject, stateSubject(dir)); err != nil {
		return state{}, err
	}
	if m.Sequence != sequence {
		return state{}, fmt.Errorf("%w: it is message %d of the stream, and was published as %d", errPayload,
			sequence, m.Sequence)
	}
	s := state{Sequence: sequence, Mark: m.Mark, Term: m.Term, Hub: m.Hub, Version: m.Program,
		Controller: m.Controller, Pass: m.Pass, AgeUnknown: m.AgeS == nil, Changed: min(m.Changed, sequence),
		Digest: store.Digest{Objects: m.Objects, Addresses: m.Addresses}}
	for _, text := range []string{m.Mark, m.Term, m.Hub, m.Program, m.Controller} {
		if !validText(text) {
			return state{}, fmt.Errorf("%w: a text is too long or has control characters", errPayload)
		}
	}
	if !unhex(s.Generation[:], m.Generation) || s.Generation.IsZero() || !unhex(s.Digest.Sum[:], m.Digest) ||
		m.Mark == "" {
		return state{}, fmt.Errorf("%w: generation, mark or digest is not valid", errPayload)
	}
	if m.AgeS != nil {
		if !(*m.AgeS >= 0 && *m.AgeS < unknownAge.Seconds()) {
			return state{}, fmt.Errorf("%w: the age is not valid", errPayload)
		}
		s.Age = time.Duration(*m.AgeS * float64(time.Second))
	}
	return s, nil
}

// decode parses exactly one JSON object.
func decode(data []byte, to any) error {
	if len(data) > maxPayload {
		return fmt.Errorf("%w: it has more than %d bytes", errPayload, maxPayload)
	}
	return unmarshal(data, to)
}

func unmarshal(data []byte, to any) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: it is not UTF-8", errPayload)
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("%w: %w", errPayload, err)
	}
	return nil
}

func checkVersion(v int) error {
	if v < 1 || v > payloadVersion {
		return fmt.Errorf("%w: its version is %d, this program reads up to %d; upgrade rcpt-milter here",
			errPayload, v, payloadVersion)
	}
	return nil
}

// checkSubject verifies that a message was published on the subject where it was read.
func checkSubject(got, want string) error {
	if got != want {
		return fmt.Errorf("%w: it was published on %.100q and read on %q", errPayload, got, want)
	}
	return nil
}

func validText(text string) bool {
	return len(text) <= maxText && !strings.ContainsFunc(text, unicode.IsControl)
}

// unhex decodes hexadecimal text into to. It reports whether the text is valid and has the length of to.
func unhex(to []byte, text string) bool {
	b, err := hex.DecodeString(text)
	copy(to, b)
	return err == nil && len(b) == len(to) && len(text) == hex.EncodedLen(len(to)) && text == strings.ToLower(text)
}

// unknownAge stands for an unknown age. It exceeds every limit.
const unknownAge = 100 * 365 * 24 * time.Hour

// agedBy returns how old the last good pass is, some time after the state was published.
func (s state) agedBy(since time.Duration) time.Duration {
	if s.AgeUnknown || since < -clock.Slack { // the clock of the engine was set back
		return unknownAge
	}
	if since = max(since, 0); s.Age > math.MaxInt64-since {
		return unknownAge
	}
	return min(s.Age+since, unknownAge)
}
