package store

import (
	"crypto/rand"
	"fmt"
)

// secretSize is how many octets a secret has.
const secretSize = 32

// Secret is a random key that lasts as long as the store. It is made when it is first
// asked for.
func (s *Store) Secret() ([]byte, error) {
	var secret []byte
	err := s.write(func(t *tx) error {
		value, err := t.get([]byte(keySecret))
		if err != nil {
			return err
		}
		if value != nil {
			d := newDecoder(value)
			secret = []byte(d.string())
			if err := d.done(); err != nil {
				return s.unreadable(keySecret, err)
			}
			return nil
		}
		secret = make([]byte, secretSize)
		rand.Read(secret) // it never fails
		e := newEncoder()
		e.string(string(secret))
		return t.set([]byte(keySecret), e)
	})
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return secret, nil
}
