package console

import (
	"fmt"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
	"rcpt-milter/policy"
)

// networksShown is how many networks over the harvest limit are printed.
const networksShown = 5

// confirmLines writes how directories confirm recipients.
func (w Writer) confirmLines(p *terminal.Page, s *control.ConfirmStatus) {
	if s == nil {
		return
	}
	p.Line("confirm", fmt.Sprintf("%s found, %s not found, %s from memory", text.Number(s.Found),
		text.Number(s.NotFound), text.Number(s.Remembered)))
	if s.OverBudget > 0 {
		p.More(p.Warn(text.Number(s.OverBudget) + " over the budget"))
	}
	if s.Unanswered > 0 {
		p.More(p.Warn(text.Number(s.Unanswered) + " without an answer"))
	}
	for _, d := range s.Directories {
		switch {
		case d.DomainController == "" && d.LastError != "":
			p.More(p.Warn(text.Printable(d.Name)+" cannot be asked") + ": " + text.Printable(d.LastError))
		case d.DomainController == "":
			p.More(text.Printable(d.Name) + " cannot be asked yet")
		case d.Followed:
			p.More(text.Printable(d.Name) + " is asked at " + text.Printable(d.DomainController) +
				", which is followed too: no other one answers")
		default:
			p.More(text.Printable(d.Name) + " is asked at " + text.Printable(d.DomainController))
		}
	}
}

// harvestLines writes which networks are over the harvest limit.
func (w Writer) harvestLines(p *terminal.Page, s *control.HarvestStatus, over int) {
	if s == nil {
		return
	}
	p.Line("harvest limit", fmt.Sprintf("%s over it, of %s remembered (%.1f MiB)",
		text.Count(int64(over), "network", "networks"), text.Number(s.Networks), float64(s.Octets)/(1<<20)))
	if s.Mode == string(policy.ModeReport) {
		p.More(fmt.Sprintf("in mode report: %s would have been deferred since the start; harvest.mode: enforce does it",
			text.Count(s.WouldLimit, "recipient", "recipients")))
	}
	shown := s.Limited[:min(networksShown, len(s.Limited))]
	for _, n := range shown {
		p.More(w.harvestLine(n))
	}
	if more := over - len(shown); more > 0 {
		p.More("and " + text.Number(int64(more)) + " more")
	}
}

// harvestLine returns what the harvest limit knows about a network.
func (w Writer) harvestLine(n control.HarvestNetwork) string {
	network := text.Printable(n.Network)
	if n.Bounces {
		network += " (bounces)"
	}
	if !n.Until.IsZero() {
		return fmt.Sprintf("%s asked about %s that were rejected, until %s", network, text.Number(n.Unknown),
			w.At(n.Until))
	}
	return fmt.Sprintf("%s has asked about %s, of which %s were rejected", network,
		text.Count(n.Recipients, "recipient", "recipients"), text.Number(n.Unknown))
}
