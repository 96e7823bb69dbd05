package mirror

import (
	"testing"
	"time"

	"rcpt-milter/directory"
)

// TestDeathOfWrongClocks checks that the time of a deletion is used only if the clocks can
// have been right.
func TestDeathOfWrongClocks(t *testing.T) {
	here, other := directory.GUID{1}, directory.GUID{2}
	started := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		at    directory.GUID // where it was deleted
		clock time.Duration  // of the controller that is read, against ours
		age   time.Duration  // of the deletion by the clock of the controller that is read
		read  time.Duration  // after the pass began
		after time.Duration  // it was alive this long before the pass began; zero: unknown
	}{
		"here":                                 {here, 0, time.Hour, 0, time.Hour + clockStep},
		"elsewhere":                            {other, 0, time.Hour, 0, time.Hour + clockStep + clockSkew},
		"our clock is wrong":                   {here, 5 * time.Hour, time.Hour, 0, time.Hour + clockStep},
		"elsewhere, a little ahead":            {other, 0, -5 * time.Minute, 0, 5*time.Minute + clockStep},
		"elsewhere, hours ahead":               {other, 0, -3 * time.Hour, 0, 0},
		"here, before its clock was set back":  {here, 0, -3 * time.Hour, 0, 0},
		"while a long pass runs":               {other, 0, -time.Hour, time.Hour, -time.Hour + clockStep + clockSkew},
		"hours ahead, while a long pass runs":  {other, 0, -4 * time.Hour, time.Hour, 0},
		"while a long pass runs, wrong clocks": {here, -5 * time.Hour, -time.Hour, time.Hour, -time.Hour + clockStep},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Mirror{config: Config{Now: func() time.Time { return started.Add(c.read) }}}
			r := &passRun{m: m, started: started, root: directory.Root{InvocationID: here, Now: started.Add(c.clock)}}
			o := directory.Object{Deleted: true}
			o.Deletion.Database, o.Deletion.USN, o.Deletion.Time = c.at, 7, r.root.Now.Add(-c.age)
			want := started.Add(-c.after)
			if c.after == 0 {
				want = time.Time{}
			}
			if got := r.deletionTime(o); !got.After.Equal(want) || got.USN != 7 {
				t.Errorf("deleted after %v, want %v", got.After, want)
			}
		})
	}
}
