package main

import (
	"fmt"

	"rcpt-milter/control"
)

// networksShown is how many networks over the harvest limit are shown to people.
const networksShown = 5

// confirm says how the directories are asked before a recipient is refused.
func (a *app) confirm(p *page, s *control.ConfirmStatus) {
	if s == nil {
		return
	}
	p.line("confirm", fmt.Sprintf("%s found, %s not found, %s from memory", grouped(s.Found), grouped(s.NotFound), grouped(s.Remembered)))
	if s.OverBudget > 0 {
		p.more(p.warn(grouped(s.OverBudget) + " over the budget"))
	}
	if s.Unanswered > 0 {
		p.more(p.warn(grouped(s.Unanswered) + " without an answer"))
	}
	for _, d := range s.Directories {
		switch {
		case d.DomainController == "" && d.LastError != "":
			p.more(p.warn(printable(d.Name)+" cannot be asked") + ": " + printable(d.LastError))
		case d.DomainController == "":
			p.more(printable(d.Name) + " cannot be asked yet")
		case d.Followed:
			p.more(printable(d.Name) + " is asked at " + printable(d.DomainController) + ", which is followed too: no other one answers")
		default:
			p.more(printable(d.Name) + " is asked at " + printable(d.DomainController))
		}
	}
}

// harvest says who guesses addresses.
func (a *app) harvest(p *page, s *control.HarvestStatus, over int) {
	if s == nil {
		return
	}
	p.line("harvest limit", fmt.Sprintf("%s over it, of %s remembered (%.1f MiB)",
		counted(int64(over), "network", "networks"), grouped(s.Networks), float64(s.Octets)/(1<<20)))
	shown := s.Limited[:min(networksShown, len(s.Limited))]
	for _, n := range shown {
		p.more(a.network(n))
	}
	if more := over - len(shown); more > 0 {
		p.more("and " + grouped(int64(more)) + " more")
	}
}

// network is what is remembered of one network, in a line.
func (a *app) network(n control.HarvestNetwork) string {
	if !n.Until.IsZero() {
		return fmt.Sprintf("%s asked about %s that never existed, until %s", printable(n.Network), grouped(n.Unknown), a.at(n.Until))
	}
	return fmt.Sprintf("%s has asked about %s, of which %s never existed", printable(n.Network),
		counted(n.Recipients, "recipient", "recipients"), grouped(n.Unknown))
}
