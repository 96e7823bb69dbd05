package logging

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// hashSize is the number of bytes of a hash in the log. Two addresses of one organisation
// hardly ever share one.
const hashSize = 6

// HashAddress returns a keyed hash (HMAC-SHA-256) of an address in its canonical form, in
// hexadecimal, followed by @ and the domain unless that is empty. The same address always has
// the same hash, and without the key it cannot be found by trying addresses.
func HashAddress(key []byte, canonical, domain string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(canonical))
	name := hex.EncodeToString(mac.Sum(nil)[:hashSize])
	if domain == "" {
		return name
	}
	return name + "@" + domain
}
