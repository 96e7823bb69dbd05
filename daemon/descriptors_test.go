package daemon

import "testing"

// TestDescriptorBudgets checks for many limits that all listeners at their maximum leave file descriptors for
// the rest, and that Postfix gets most of them.
func TestDescriptorBudgets(t *testing.T) {
	for _, limit := range []int{256, 512, 1024, 4096, 20_000, 65_536, 1 << 30} {
		for _, used := range []int{20, 60, limit / 8} {
			for _, wanted := range []int{1, 100, 2000, 1_000_000} {
				sessions := sessionBudget(wanted, used, limit, 2)
				if sessions < 1 || sessions > wanted {
					t.Errorf("of %d descriptors, %d used, Postfix gets %d connections, and may have %d", limit, used,
						sessions, wanted)
				}
				all := used + sessions + 2 + budgetOfOthers(limit)
				with := sessionBudget(wanted, used, limit, 2+engineBudget(limit))
				sum := used + with + 2 + engineBudget(limit) + budgetOfOthers(limit)
				if left := limit - sum; left < limit/16 && left < maxReserve {
					t.Errorf("of %d descriptors, %d used, %d are left beside an engine", limit, used, left)
				}
				if with < wanted && with < limit/4 {
					t.Errorf("of %d descriptors, %d used, Postfix gets only %d beside an engine", limit, used, with)
				}
				if left := limit - all; left < limit/16 && left < maxReserve {
					t.Errorf("of %d descriptors, %d used, %d are left", limit, used, left)
				}
				if sessions < wanted && sessions < limit/3 {
					t.Errorf("of %d descriptors, %d used, Postfix gets only %d", limit, used, sessions)
				}
			}
		}
	}
	if got := sessionBudget(2000, 0, 0, 1); got != 2000 {
		t.Errorf("without a known limit Postfix gets %d connections", got)
	}
}

func TestCountDescriptors(t *testing.T) {
	raiseDescriptorLimit()
	if c := countDescriptors(); c.Open < 3 || c.Limit <= c.Open {
		t.Errorf("descriptors: %+v", c)
	}
}
