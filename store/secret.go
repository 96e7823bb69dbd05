package store

import (
	"crypto/rand"
	"fmt"
)

// secretSize is the size of a secret in bytes.
const secretSize = 32

// Secret returns a random key that lasts as long as the store. The first call creates it. In a
// read-only store it is nil if there is none.
func (s *Store) Secret() (secret []byte, err error) {
	if secret, err = s.readSecret(); err != nil || secret != nil || s.config.ReadOnly {
		return secret, err
	}
	err = s.write(func(t *tx) error {
		value, err := t.get([]byte(keySecret))
		if err != nil {
			return err
		}
		if value != nil {
			secret, err = s.decodeSecret(value)
			return err
		}
		secret = make([]byte, secretSize)
		rand.Read(secret) // never fails
		e := newEncoder()
		e.string(string(secret))
		return t.set([]byte(keySecret), e)
	})
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return secret, nil
}

func (s *Store) readSecret() ([]byte, error) {
	if err := s.beginRead(); err != nil {
		return nil, err
	}
	defer s.endRead()
	value, err := s.get([]byte(keySecret))
	if err != nil || value == nil {
		return nil, err
	}
	return s.decodeSecret(value)
}

func (s *Store) decodeSecret(value []byte) ([]byte, error) {
	d := newDecoder(value)
	secret := []byte(d.string())
	if err := d.done(); err != nil {
		return nil, s.unreadable(keySecret, err)
	}
	return secret, nil
}
