package table

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"rcpt-milter/address"
)

// EachKey visits the keys of a table that a Writer wrote, in canonical form and in the order of the
// file. Spellings of one key in a row count once. It is strict: a line that no Writer writes is an
// error, because skipping it would lose its key. An error of visit ends it and is returned.
func EachKey(r io.Reader, visit func(key string) error) error {
	l, last := newLines(r), ""
	for l.next() {
		key, err := writtenKey(l.text)
		if err != nil {
			return fmt.Errorf("line %d: %w", l.first, err)
		}
		if key == last {
			continue
		}
		if err := visit(key); err != nil {
			return err
		}
		last = key
	}
	if l.err != io.EOF {
		return l.err
	}
	return nil
}

// writtenKey returns the canonical key of a line of a Writer.
func writtenKey(line []byte) (string, error) {
	text, err := keyOf(line)
	if err != nil {
		return "", err
	}
	if value := bytes.TrimRight(line[len(text):], space); string(value) != "\t"+writtenValue {
		return "", fmt.Errorf("%s has another value than %s", shown(line), writtenValue)
	}
	key, err := CanonicalKey(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", shown(line), err)
	}
	return key, nil
}

// CanonicalKey returns the canonical form of a mailbox, or of @ and a domain. Unlike an entry of an
// accept file, the key may be one that no recipient has.
func CanonicalKey(text string) (string, error) {
	domain, whole := strings.CutPrefix(text, "@")
	if !whole {
		a, err := address.Parse(text)
		return a.String(), err
	}
	domain, err := address.ParseDomain(domain)
	if err == nil && domain == "" {
		err = errors.New("no domain after the @")
	}
	return "@" + domain, err
}
