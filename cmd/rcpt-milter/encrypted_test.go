package main

import (
	"strings"
	"testing"
)

// TestEncryptedStore: the daemon and the commands that read its store without it take the
// key from its file; without the right one they say what is wrong.
func TestEncryptedStore(t *testing.T) {
	r := newRig(t)
	key := r.write("key", strings.Repeat("a1", 32)+"\n")
	r.edit("min_free: 1MiB", "min_free: 1MiB, encryption_key_file: "+key)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	d.stop()
	if out := r.want(exitOK, "check"); !strings.Contains(out, "/store: 2 addresses of 1 object, digest ") {
		t.Errorf("check says\n%s", out)
	}
	r.edit("level: debug", "level: debug, addresses: hash") // nothing to hash with yet
	r.want(exitOK, "lookup", "jane@corp.example")           // from the store
	d = r.serve()
	r.want(exitOK, "lookup", "jane@corp.example")
	r.want(exitOK, "check")
	d.stop()
	for _, c := range []struct{ old, new, want string }{
		{"encryption_key_file: " + key, `encryption_key_file: ""`,
			"the store is encrypted; set store.encryption_key_file to its key\n"},
		{`encryption_key_file: ""`, "encryption_key_file: " + r.write("other", strings.Repeat("b2", 32)),
			"the store was made with another key; "},
		{"/other", "/password", "contains no AES key: expected 16, 24 or 32 bytes"},
	} {
		r.edit(c.old, c.new)
		for _, command := range []string{"serve", "check"} {
			if out := r.want(exitFailure, command); !strings.Contains(out, c.want) {
				t.Errorf("%s with %s says %q, want %q", command, c.new, out, c.want)
			}
		}
	}
	r.edit("encryption_key_file: "+r.dir+"/password", "encryption_key_file: "+key)
	r.serve()
	r.want(exitOK, "lookup", "jane@corp.example")
}
