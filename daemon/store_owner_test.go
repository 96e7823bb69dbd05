package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStoreOfAnotherAccount checks that root is warned of the store of another account.
func TestStoreOfAnotherAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a file away")
	}
	const other = 60123 // no account has it
	for _, c := range []struct {
		name  string
		owner int // of the store; -1: there is none
		euid  int
		fails bool
	}{
		{"its own", 0, 0, false},
		{"of another account", other, 0, true},
		{"none yet", -1, 0, false},
		{"of another account, without the rights of root", other, 1000, false}, // the store says what is wrong
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if path := filepath.Join(dir, storeFile); c.owner >= 0 {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(path, c.owner, c.owner); err != nil {
					t.Fatal(err)
				}
			}
			err := checkOwner(dir, c.euid)
			if (err != nil) != c.fails || err != nil && !strings.Contains(err.Error(), "belongs to uid 60123") {
				t.Errorf("error %v", err)
			}
		})
	}
}
