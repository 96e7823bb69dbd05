package control

import (
	"encoding/json"
	"testing"
	"time"
)

// TestTimeInJSON checks that a time that RFC 3339 cannot write is null, and that the rest of the answer stays.
func TestTimeInJSON(t *testing.T) {
	west := time.FixedZone("", -3600)
	for _, c := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"none", time.Time{}, `null`},
		{"in a zone", time.Date(2026, 3, 4, 14, 0, 0, 0, west), `"2026-03-04T15:00:00Z"`},
		{"the last one", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), `"9999-12-31T23:59:59Z"`},
		{"the end of the year 9999, west of Greenwich", time.Date(9999, 12, 31, 23, 59, 59, 0, west), `null`},
		{"the end of a time stamp of a file", time.Unix(1<<43, 0), `null`},
		{"before the year 0", time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), `null`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := DirectoryStatus{Name: "corp", Expiry: &ExpiryStatus{Account: Time{c.at}}}
			text, err := json.Marshal(Status{State: Fresh, Directories: []DirectoryStatus{d}})
			if err != nil {
				t.Fatal(err)
			}
			var s struct {
				Directories []struct{ Expiry map[string]json.RawMessage }
			}
			if err := json.Unmarshal(text, &s); err != nil {
				t.Fatal(err)
			}
			if got := string(s.Directories[0].Expiry["account"]); got != c.want {
				t.Errorf("account %s, want %s", got, c.want)
			}
		})
	}
}
