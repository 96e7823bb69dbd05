package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestInMemory: temporary files of tests are in memory, unless the caller chose a directory.
func TestInMemory(t *testing.T) {
	t.Run("chosen", func(t *testing.T) {
		t.Setenv("TMPDIR", t.TempDir())
		env, remove := inMemory([]string{"A=b"})
		remove()
		if !slices.Equal(env, []string{"A=b"}) {
			t.Errorf("the environment is %q", env)
		}
	})
	t.Run("not chosen", func(t *testing.T) {
		if !memoryFor(enoughMemory) {
			t.Skip("this machine has too little memory")
		}
		t.Setenv("TMPDIR", "")
		env, remove := inMemory(nil)
		dir, found := strings.CutPrefix(env[0], "TMPDIR=")
		if info, err := os.Stat(dir); !found || err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("%q: %v, %v", env, info, err)
		}
		remove()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("after the tests: %v", err)
		}
	})
}

// TestMemoryFor: no machine has all the memory there is.
func TestMemoryFor(t *testing.T) {
	if memoryFor(math.MaxUint64) {
		t.Error("enough for everything")
	}
}
