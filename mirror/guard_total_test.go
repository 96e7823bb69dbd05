package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestShareOfClosedAddresses checks addresses that became internal-only within the window. They are lost, but
// still belong to the directory. The guard must count them once in the size of the directory, active or
// retired.
func TestShareOfClosedAddresses(t *testing.T) {
	const users, closed, lost = 20, 3, 8 // (3 + 8) of 20 is 55 %
	for _, retired := range []bool{false, true} {
		for share, held := range map[float64]bool{54: true, 56: false} {
			t.Run(fmt.Sprintf("retired %t, share %g", retired, share), func(t *testing.T) {
				guard := Guard{Percent: 100, Count: 1000, Max: 1000, Share: share, Window: 24 * time.Hour}
				w := newWorld(t, func(_ *world, c *Config) {
					applyInternalOnly(c)
					c.Guard, c.Guarded = guard, func(string) bool { return false }
				})
				var all []adsim.GUID
				for i := range users {
					ou := people
					if i >= lost {
						ou = "OU=Left,DC=corp,DC=example" // another directory has these too
					}
					all = append(all, w.add(adsim.User, fmt.Sprintf("CN=u%d,%s", i, ou),
						fmt.Sprintf("u%d@corp.example", i)))
				}
				w.pass(store.Full)
				w.setInternalOnly(true, all[:closed]...)
				if info := w.pass(store.Incremental); info.Removed != closed {
					t.Fatalf("the closing pass: %+v", info)
				}
				w.advance(time.Minute)
				var why string
				if retired {
					config := w.config
					config.Name, config.Rules.Bases = "other", []string{"OU=Left,DC=corp,DC=example"}
					w.otherWith(config)
					r := w.retire(guard)
					r.SetGuarded(func(string) bool { return false })
					why = w.retirePass(r).Hold
				} else {
					for _, guid := range all[:lost] {
						w.must(w.d.Delete(guid))
					}
					why = w.pass(store.Incremental).Hold
				}
				if held != (why != "") || held && !strings.Contains(why, "11 addresses (55.0 % of the directory)") {
					t.Errorf("held because %q, want %t and 55 %%", why, held)
				}
			})
		}
	}
}
