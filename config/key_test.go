package config

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func TestKey(t *testing.T) {
	for _, size := range keySizes {
		key := bytes.Repeat([]byte{0xfa, 0x0a, '\n', 'x'}, size/4)
		for _, text := range []string{string(key), hex.EncodeToString(key),
			strings.ToUpper(hex.EncodeToString(key)) + "\n", base64.StdEncoding.EncodeToString(key),
			base64.StdEncoding.EncodeToString(key) + "\r\n",
			base64.RawStdEncoding.EncodeToString(key) + "\n",
			"\ufeff" + hex.EncodeToString(key) + "\r\n"} {
			s := Store{KeyFile: write(t, "key", text, 0o600)}
			if got, err := s.Key(); err != nil || !bytes.Equal(got, key) {
				t.Errorf("a key of %d bytes, written %q: %x, %v", size, text, got, err)
			}
		}
	}
	for _, text := range []string{"", "\n", "short", strings.Repeat("x", 33), hex.EncodeToString(make([]byte, 20)),
		strings.Repeat("g", 64)} {
		s := Store{KeyFile: write(t, "key", text, 0o600)}
		if got, err := s.Key(); err == nil || !strings.Contains(err.Error(),
			"contains no AES key: expected 16, 24 or 32 bytes") {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	wide := write(t, "key", "\xff\xfe"+strings.Repeat("k\x00", 44), 0o600)
	if got, err := (Store{KeyFile: wide}).Key(); err == nil || !strings.Contains(err.Error(), wide+" is in UTF-16") {
		t.Errorf("in UTF-16: %x, %v", got, err)
	}
	if got, err := (Store{KeyFile: "/nonexistent"}).Key(); err == nil ||
		err.Error() != "the key file /nonexistent does not exist" {
		t.Errorf("no file: %x, %v", got, err)
	}
	if got, err := (Store{}).Key(); err != nil || got != nil {
		t.Errorf("no key: %x, %v", got, err)
	}
}

// TestCheckKey: a key that is not there is an error of the file, and one that everybody
// may read is a warning.
func TestCheckKey(t *testing.T) {
	for _, c := range []struct{ path, err, warning string }{
		{write(t, "key", strings.Repeat("k", 32), 0o600), "", ""},
		{write(t, "key", strings.Repeat("k", 32), 0o644), "", "is readable by every account"},
		{"/nonexistent", "store.encryption_key_file: the key file /nonexistent does not exist", ""},
		{write(t, "key", "x", 0o600), "contains no AES key", ""},
	} {
		config, err := Parse("c.yaml", []byte("store: {encryption_key_file: "+c.path+"}\nlisten: inet:127.0.0.1:1\n"+
			strings.ReplaceAll(smallest,
				"/etc/rcpt-milter/password", write(t, "password", "secret", 0o600))))
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := config.CheckFiles()
		if got := textOf(err); !strings.Contains(got, c.err) || (got == "") != (c.err == "") {
			t.Errorf("CheckFiles of %s: %q, want %q", c.path, got, c.err)
		}
		if len(warnings) > 0 != (c.warning != "") ||
			len(warnings) > 0 && !strings.Contains(warnings[0].Error(), c.warning) {
			t.Errorf("CheckFiles of %s: warnings %v, want %q", c.path, warnings, c.warning)
		}
	}
}
