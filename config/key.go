package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"

	"rcpt-milter/internal/files"
)

// keySizes are those of AES keys, in octets.
var keySizes = []int{16, 24, 32}

// Key reads the key that the store is encrypted with; nil: it is not.
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
	return nil, fmt.Errorf("the key file %s holds no AES key: expected 16, 24 or 32 octets, as they are, in base64 or in hexadecimal; make one with: openssl rand -base64 32", s.KeyFile)
}

// parseKey reads a key that stands in hexadecimal, in base64, or as it is; nil: it does
// not. No random key looks like one of the others.
func parseKey(data []byte) []byte {
	text := string(files.Line(data))
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString} {
		if key, err := decode(text); err == nil && slices.Contains(keySizes, len(key)) {
			return key
		}
	}
	if slices.Contains(keySizes, len(data)) {
		return data
	}
	return nil
}
