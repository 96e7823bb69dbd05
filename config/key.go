package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"

	"rcpt-milter/internal/files"
)

// keySizes are the sizes of AES keys in bytes.
var keySizes = []int{16, 24, 32}

// Key reads the encryption key of the store. It returns nil if the store is not encrypted.
func (s Store) Key() ([]byte, error) {
	if s.KeyFile == "" {
		return nil, nil
	}
	data, err := files.Read(s.KeyFile, "key", files.MaxKey)
	if err != nil {
		return nil, err
	}
	if key := parseKey(data); key != nil {
		return key, nil
	}
	if encoding := files.Encoding(data); encoding != "" {
		return nil, fmt.Errorf("the key file %s %s", s.KeyFile, files.WrongEncoding(encoding, s.KeyFile))
	}
	return nil, fmt.Errorf("the key file %s contains no AES key: expected 16, 24 or 32 bytes, raw, in base64 or in "+
		"hexadecimal; create one with: openssl rand -base64 32", s.KeyFile)
}

// parseKey reads a key in hexadecimal, base64 or raw form, or returns nil. A random key in
// one form is not valid in another.
func parseKey(data []byte) []byte {
	text := string(files.Line(data))
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString,
		base64.RawStdEncoding.DecodeString} {
		if key, err := decode(text); err == nil && slices.Contains(keySizes, len(key)) {
			return key
		}
	}
	if slices.Contains(keySizes, len(data)) {
		return data
	}
	return nil
}
