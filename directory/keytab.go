package directory

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/types"

	"rcpt-milter/internal/files"
)

// keytabKey is one key of a keytab.
type keytabKey struct {
	principal string // components separated by slashes, @, realm; as in the keytab
	version   uint32
	key       types.EncryptionKey
}

// encTypes are the encryption types in use, the strongest first. RC4 and DES are not among
// them: they can be broken, and RC4 has wrap tokens of its own (RFC 4757).
var encTypes = []int32{etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA1_96}

// keyLength is the length of keys of these types, in bytes (RFC 3962 section 6).
var keyLength = map[int32]int{etypeID.AES256_CTS_HMAC_SHA1_96: 32, etypeID.AES128_CTS_HMAC_SHA1_96: 16}

// readKeys reads the newest keys of a principal from a keytab, the strongest first. It ignores
// the case of the name, as Active Directory does; the bind uses the keytab's spelling. Errors
// are ErrSecret and show only names from the file.
func readKeys(path, principal string) ([]keytabKey, error) {
	content, err := files.Read(path, "keytab", files.MaxKeytab)
	if err != nil {
		return nil, newError(ErrSecret, "bind.keytab: %w", err)
	}
	all, ok := parseKeytab(content)
	if !ok {
		return nil, newError(ErrSecret, "bind.keytab: %s is not a keytab, or is damaged; export it again", path)
	}
	return selectKeys(all, path, principal)
}

// CheckKeytab checks that a keytab has a key of the principal for a bind. Only the controller
// knows whether it is the right key. Errors are ErrSecret.
func CheckKeytab(path, principal string) error {
	_, err := readKeys(path, principal)
	return err
}

// selectKeys selects the usable keys.
func selectKeys(all []keytabKey, path, principal string) ([]keytabKey, error) {
	var own []keytabKey
	var others []string
	for _, k := range all {
		others = appendUnique(others, k.principal)
		if strings.EqualFold(k.principal, principal) {
			own = append(own, k)
		}
	}
	if len(own) == 0 {
		return nil, newError(ErrSecret, "bind.keytab: %s has no key of %q; correct bind.principal (it has keys of %s)",
			path, principal, joinNames(others))
	}
	newest := slices.MaxFunc(own, func(a, b keytabKey) int { return cmp.Compare(a.version, b.version) }).version
	var chosen []keytabKey
	for _, etype := range encTypes {
		i := slices.IndexFunc(own, func(k keytabKey) bool { return k.key.KeyType == etype && k.version == newest })
		if i >= 0 && len(own[i].key.KeyValue) == keyLength[etype] {
			chosen = append(chosen, own[i])
		}
	}
	if len(chosen) == 0 {
		return nil, newError(ErrSecret, "bind.keytab: the newest key of %q in %s (version %d) is not an AES key; "+
			"export the keytab with AES keys", principal, path, newest)
	}
	return chosen, nil
}

// joinNames lists the first few names.
func joinNames(names []string) string {
	const few = 5
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > few:
		return strings.Join(names[:few], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// parseKeytab parses version 2 of the format, in which all numbers are big-endian: each entry
// follows its length, and a negative length is a hole. The Kerberos library is not used,
// because its errors quote the keys.
func parseKeytab(b []byte) (keys []keytabKey, ok bool) {
	if len(b) < 2 || b[0] != 5 || b[1] != 2 {
		return nil, false
	}
	r := byteReader{data: b[2:]}
	for len(r.data) > 0 && !r.truncated {
		size := int32(r.uint(4))
		switch {
		case size > 0:
			k, ok := parseKey(byteReader{data: r.next(int(size))})
			if !ok {
				return nil, false
			}
			keys = append(keys, k)
		case size < 0:
			r.next(-int(size))
		default: // zero ends the file, even if bytes follow
			return keys, true
		}
	}
	if r.truncated {
		return nil, false
	}
	return keys, true
}

// parseKey parses one entry.
func parseKey(r byteReader) (k keytabKey, ok bool) {
	components := r.uint(2)
	realm := string(r.next(int(r.uint(2))))
	var name []string
	for range components {
		name = append(name, string(r.next(int(r.uint(2)))))
		if r.truncated {
			return k, false
		}
	}
	k.principal = strings.Join(name, "/") + "@" + realm
	r.next(4 + 4) // name type, time
	k.version = r.uint(1)
	k.key.KeyType = int32(r.uint(2))
	k.key.KeyValue = r.next(int(r.uint(2)))
	if r.truncated {
		return k, false
	}
	if len(r.data) >= 4 { // a version that does not fit into one byte
		if wide := r.uint(4); wide != 0 {
			k.version = wide
		}
	}
	return k, true
}

// byteReader reads fields from the remaining bytes of a message.
type byteReader struct {
	data      []byte
	truncated bool // a field was longer than the data
}

func (o *byteReader) next(n int) []byte {
	if n < 0 || n > len(o.data) {
		o.truncated, o.data = true, nil
		return nil
	}
	taken := o.data[:n]
	o.data = o.data[n:]
	return taken
}

// uint reads a number of 1, 2 or 4 bytes.
func (o *byteReader) uint(size int) uint32 {
	var b [4]byte
	copy(b[4-size:], o.next(size))
	return binary.BigEndian.Uint32(b[:])
}
