package policy

import (
	"context"
	"testing"
)

// TestHarvestReportOnly checks that a limit that only reports changes no reply and no search, and marks exactly
// the decisions that row 11 would have made.
func TestHarvestReportOnly(t *testing.T) {
	for name, all := range map[string]bool{"scope unknown": false, "scope all": true} {
		t.Run(name, func(t *testing.T) {
			marked := 0
			for _, c := range fullDecisions {
				decide := func(change func(*Config)) (Decision, *fakeConfirmer) {
					confirm := &fakeConfirmer{}
					p := fullPolicy(t, func(cfg *Config) {
						cfg.Confirm, cfg.HarvestScopeAll = confirm, all
						change(cfg)
					})
					q, _ := fullQuery(t, c.recipient)
					return p.Decide(context.Background(), q), confirm
				}
				off, searched := decide(func(cfg *Config) { cfg.Harvest = nil })
				enforced, _ := decide(func(*Config) {})
				reported, asked := decide(func(cfg *Config) { cfg.HarvestReportOnly = true })
				want := enforced.Verdict == VerdictHarvestLimited
				if reported.WouldLimit != want {
					t.Errorf("%s, %s: marked %t, but the limit answers %s", name, c.recipient, reported.WouldLimit,
						enforced.Verdict)
				}
				if want {
					marked++
				}
				if reported.Reply != off.Reply || reported.Verdict != off.Verdict ||
					len(asked.asked) != len(searched.asked) || asked.suspects != searched.suspects {
					t.Errorf("%s, %s: %s %q with a limit that only reports, %s %q without one", name, c.recipient,
						reported.Verdict, reported.Reply, off.Verdict, off.Reply)
				}
				if enforced.WouldLimit {
					t.Errorf("%s, %s: marked though the limit answers", name, c.recipient)
				}
			}
			if marked < 5 {
				t.Errorf("%s: only %d decisions are marked", name, marked)
			}
		})
	}
}
