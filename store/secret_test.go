package store

import (
	"bytes"
	"context"
	"testing"
)

// TestSecret: a secret is created once, and no two stores have the same.
func TestSecret(t *testing.T) {
	var secrets [][]byte
	for range 2 {
		dir := t.TempDir()
		for range 2 { // the second time after a restart
			s, err := Open(context.Background(), Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				secret, err := s.Secret()
				if err != nil || len(secret) != secretSize {
					t.Fatalf("Secret: %d bytes, %v", len(secret), err)
				}
				secrets = append(secrets, secret)
			}
			if err := s.Recount(); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Secret(); err == nil {
				t.Error("a closed store gives a secret")
			}
			s, err = Open(context.Background(), Config{Dir: dir, ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			if secret, err := s.Secret(); err != nil || !bytes.Equal(secret, secrets[len(secrets)-1]) {
				t.Errorf("Secret of a store for reading: %x, %v", secret, err)
			}
			s.Close()
		}
	}
	for i, secret := range secrets {
		if same := bytes.Equal(secret, secrets[0]); same != (i < 4) {
			t.Errorf("secret %d: the same as the first is %v", i, same)
		}
	}
}
