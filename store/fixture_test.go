package store

import (
	"testing"
	"time"
)

// TestFormatTwo: stores that the last version without m/commit and without a mark left, closed
// and killed, are converted, open without doubt, and go on. The conversion computes the digests.
func TestFormatTwo(t *testing.T) {
	for _, name := range []string{"format2", "format2-killed"} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: unpacked(t, name)})
			for range 2 {
				wantConverted(t, s)
				for _, dir := range []string{"corp", "lab"} {
					if doubt := s.Directory(dir).Doubt; doubt != "" {
						t.Errorf("directory %s: %s", dir, doubt)
					}
				}
				refused, err := s.RefusalsSince(start)
				if err != nil || refused.Total != 1 {
					t.Errorf("refusals: %+v, %v", refused, err)
				}
				if secret, err := s.Secret(); err != nil || len(secret) != secretSize {
					t.Errorf("secret: %x, %v", secret, err)
				}
				s = reopen(t, s)
			}
			pass(t, s, "corp", Full, start.Add(4*time.Hour), "", object(t, 1, "a@x.test"), object(t, 3, "!d@x.test"))
			s = reopen(t, s)
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
			checkSound(t, s)
		})
	}
}
