package daemon

import (
	"fmt"
	"path/filepath"
)

// storeFile is a file that every store has.
const storeFile = "MANIFEST"

// checkOwner returns an error if root is about to open the store of another account. That account cannot read the
// files that root makes in it, so the service would not start any more. It is a warning, because a container may run
// as root on a volume of another account.
func checkOwner(dir string, euid int) error {
	owner, own := ownerOfDir(filepath.Join(dir, storeFile))
	if own || euid != 0 {
		return nil
	}
	return fmt.Errorf("store %s belongs to %s, which cannot read what root writes into it; run the daemon as that "+
		"account (systemctl start rcpt-milter, or runuser -u %s -- rcpt-milter serve), or give the store to root: "+
		"chown -R root %s", dir, owner, owner, dir)
}
