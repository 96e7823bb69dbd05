package directory

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
)

// newFrames returns the state of a new connection.
func newFrames() *frames {
	f := &frames{}
	f.budget.lift()
	return f
}

// between reports whether no message is under way.
func (f *frames) between() bool { return f.got == 0 && f.skip == 0 && f.depth == 0 }

// inPieces checks bytes that arrive a few at a time.
func inPieces(f *frames, b []byte, size int) error {
	for len(b) > 0 {
		n := min(size, len(b))
		if err := f.check(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Answers of Active Directory, which sends lengths in four bytes, and of Samba.
var goodMessages = []string{
	"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x61\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00",
	"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
	"\x30\x84\x00\x00\x00\x28\x02\x01\x01\x78\x84\x00\x00\x00\x1f\x0a\x01\x00\x04\x00\x04\x00\x8a\x16" +
		"1.3.6.1.4.1.1466.20037",
	encode(0x30, "\x02\x01\x02", searchEntry(encode(tagOctetString, "top"), encode(tagOctetString, "user"))),
	encode(0x30, "\x02\x02\x01\x00", encode(0x65, "\x0a\x01\x00\x04\x00\x04\x00"),
		encode(0xa0, encode(0x30, encode(tagOctetString, "1.2.840.113556.1.4.319"),
			encode(tagOctetString, "\x30\x84\x00\x00\x00\x06\x02\x01\x00\x04\x01x")))),
	encode(0x30, "\x02\x01\x02", encode(0x73, encode(tagOctetString, "ldap://dc1/DC=x"))),
	"\x30\x00",
}

func TestFrames(t *testing.T) {
	for _, m := range goodMessages {
		for _, size := range []int{1, 2, 3, 7, math.MaxInt} {
			f := newFrames()
			if err := inPieces(f, []byte(m+m), size); err != nil || !f.between() {
				t.Errorf("check(%q) in pieces of %d: %v, between messages: %t", m, size, err, f.between())
			}
		}
	}
}

// TestFramesBudget: of the answer to one search, and of nothing else.
func TestFramesBudget(t *testing.T) {
	entry := []byte(encode(0x30, "\x02\x01\x02", searchEntry(encode(tagOctetString, strings.Repeat("x", 1<<20)))))
	for name, tc := range map[string]struct {
		entries, messages int
		words             string // empty: it is within the budget
	}{
		"one":                {1, 1, ""},
		"one too many":       {1, 2, "more entries"},
		"a page":             {1000, 250, ""},
		"a page too long":    {1000, 257, "too long"},
		"notifications only": {0, 1000, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFrames()
			if tc.entries > 0 {
				f.budget.set(tc.entries)
			}
			var err error
			for n := 0; n < tc.messages && err == nil; n++ {
				err = f.check(entry)
			}
			if tc.words == "" && err != nil ||
				tc.words != "" && (err == nil || !strings.Contains(err.Error(), tc.words)) {
				t.Errorf("%d messages: %v, want %q", tc.messages, err, tc.words)
			}
		})
	}
}

// shape describes a decoded message.
type shape struct {
	depth, elements int
	longTag, large  bool // large: an operation that is not an entry
}

func shapeOf(p *ber.Packet, level int) shape {
	s := shape{depth: 1, elements: 1, longTag: p.Tag >= numberMask}
	s.large = level == 1 && p.Bytes()[0] != tagSearchEntry && len(p.Bytes()) > maxNonEntry
	for _, child := range p.Children {
		c := shapeOf(child, level+1)
		s.depth, s.elements = max(s.depth, c.depth+1), s.elements+c.elements
		s.longTag, s.large = s.longTag || c.longTag, s.large || c.large
	}
	return s
}

// FuzzFrames compares the check with the decoder that it protects.
func FuzzFrames(f *testing.F) {
	for _, m := range goodMessages {
		f.Add([]byte(m))
	}
	f.Add([]byte(nested("\x04\x00", 15)))
	f.Add([]byte(nested("\x04\x00", 16)))
	f.Add([]byte("\x30\x80\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, bytewise := newFrames(), newFrames()
		err := whole.check(b)
		if other := inPieces(bytewise, b, 1); (err == nil) != (other == nil) ||
			err == nil && whole.between() != bytewise.between() {
			t.Fatalf("check: %v, byte by byte: %v", err, other)
		}
		if err != nil && !errors.Is(err, ErrProtocol) {
			t.Fatalf("kind of %v", err)
		}
		p, decodeErr := ber.DecodePacketErr(b)
		if decodeErr != nil {
			return
		}
		s := shapeOf(p, 0)
		if err == nil && (s.depth > maxDepth || s.elements > maxElements) {
			t.Errorf("accepted: %+v", s)
		}
		again := p.Bytes()
		fits := again[0] == ldapMessage && s.depth <= maxDepth && s.elements <= maxElements && !s.longTag && !s.large
		if err := newFrames().check(again); (err == nil) != fits {
			t.Errorf("%+v: %v", s, err)
		}
	})
}

// FuzzStartTLSAnswer reads what anybody on the path can send in clear.
func FuzzStartTLSAnswer(f *testing.F) {
	for _, m := range goodMessages {
		f.Add([]byte(m))
	}
	f.Add([]byte("\x15\x03\x01\x00\x02\x02\x0a"))
	f.Add([]byte("\x30\x24\x02\x01\x00\x78\x1f\x0a\x01\x02\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20036"))
	f.Add([]byte("\x30\x84\x7f\xff\xff\xff\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		content, err := readClear(in)
		used := len(b) - in.Len()
		if used > maxClear {
			t.Fatalf("%d bytes read", used)
		}
		if err != nil {
			return
		}
		p, err := ber.ReadPacket(io.LimitReader(bytes.NewReader(b), int64(used)))
		id, result, ok := parseExtended(content)
		if err != nil || !ok {
			return // the decoder also reads what is not part of the result
		}
		op := p.Children[1]
		if p.Children[0].Value != int64(int8(id)) || op.Children[0].Value != int64(int8(result.ResultCode)) ||
			op.Children[2].Data.String() != result.Err.Error() {
			t.Errorf("parseExtended(%x) = %d, %v", content, id, result)
		}
	})
}
