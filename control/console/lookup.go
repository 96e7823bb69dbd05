package console

import (
	"cmp"
	"fmt"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// Lookup writes the reply that an address would get, and why.
func (w Writer) Lookup(p *terminal.Page, l control.LookupAnswer) {
	w.outcome(p, l)
	w.reason(p, l)
	formLines(p, l)
	for _, o := range l.Owners {
		w.owner(p, o)
	}
	w.removal(p, l)
	w.history(p, l.History)
}

// outcome writes what happens to mail for the address, and under which conditions.
func (w Writer) outcome(p *terminal.Page, l control.LookupAnswer) {
	colour := cmp.Or(map[control.Outcome]string{control.Accepted: terminal.Green,
		control.Refused: terminal.Red}[l.Outcome],
		terminal.Yellow)
	p.WriteString(text.Printable(l.Address) + ": " + p.Paint(text.Printable(string(l.Outcome)), colour) + "\n")
	if l.Offline {
		p.Line("daemon", p.Warn("no daemon is running; this is what its store makes of it"))
	}
	if !l.At.IsZero() {
		p.Line("as of", w.At(l.At))
		for _, s := range l.Assumed {
			p.More(text.Printable(s))
		}
	}
	p.Line("reply", text.Printable(l.Reply))
	if l.WouldRefuse {
		p.More("in mode enforce it would be " + text.Printable(l.WouldReply))
	}
}

// reason writes the row of the decision table, and the state that the row depends on.
func (w Writer) reason(p *terminal.Page, l control.LookupAnswer) {
	because := text.Printable(l.Reason)
	if l.Entry != "" {
		because += ": " + text.Printable(l.Entry)
	}
	p.Line("because", fmt.Sprintf("%s (verdict %s, row %d)", because, text.Printable(l.Verdict), l.Rule))
	if l.Error != "" {
		p.Line("error", p.Warn(text.Printable(l.Error)))
	}
	if l.DirectoryState != "" {
		s := StateWords(p, l.DirectoryState)
		if l.Directory != "" {
			s = text.Printable(l.Directory) + " is " + s
		}
		p.Line("directory", s)
	}
	if l.Harvest != nil {
		p.Line("harvest limit", w.harvestLine(*l.Harvest))
	}
}

// formLines writes the forms of the address: canonical, at the target of a domain alias, as
// found in the index, and in the log.
func formLines(p *terminal.Page, l control.LookupAnswer) {
	canonical := "cannot be read as an address"
	if l.Canonical != "" {
		canonical = text.Printable(l.Canonical)
	}
	p.Line("canonical form", canonical)
	whole := cmp.Or(l.JudgedAs, l.Canonical)
	if l.AliasedBy != "" {
		p.Line("judged as", text.Printable(whole)+", by "+text.Printable(l.AliasedBy))
	}
	if l.Matched != "" && l.Matched != whole {
		how := "without the extension"
		if l.Stripped != "" {
			how = "without the tag (strip_prefixes: " + text.Printable(l.Stripped) + ")"
		}
		p.Line("found as", text.Printable(l.Matched)+", "+how)
	}
	if l.LoggedAs != "" {
		p.Line("in the log", text.Printable(l.LoggedAs))
	}
	if l.Domain != "" {
		p.Line("domain", text.Printable(l.Domain)+", mode "+text.Printable(l.Mode))
	}
}

// removal writes when the last owner lost the address.
func (w Writer) removal(p *terminal.Page, l control.LookupAnswer) {
	if l.Removed.IsZero() {
		return
	}
	s := w.At(l.Removed)
	if l.RemovedPass != 0 {
		s += fmt.Sprintf(", by pass %d", l.RemovedPass)
	}
	p.Line("removed", s)
}

// historyShown is how many rows are printed, the latest ones.
const historyShown = 20

func (w Writer) history(p *terminal.Page, rows []control.JournalRow) {
	label := "history"
	if more := len(rows) - historyShown; more > 0 {
		p.Line(label, text.Count(more, "earlier change", "earlier changes")+", which --json lists")
		label, rows = "", rows[more:]
	}
	for _, r := range rows {
		change := strings.TrimRight(text.Printable(r.Change)+" "+r.Note(), " ")
		p.Line(label, fmt.Sprintf("%s %s, pass %d of %s: %s", change, w.At(r.Time), r.Pass, text.Printable(r.Directory),
			text.Printable(control.ObjectName(r.DN, r.GUID))))
		label = ""
	}
}

func (w Writer) owner(p *terminal.Page, o control.Owner) {
	p.Line("owner", text.Printable(control.ObjectName(o.DN, o.GUID)))
	if o.Class != "" {
		p.More(fmt.Sprintf("%s, attribute %s, directory %s, GUID %s",
			text.Printable(o.Class), text.Printable(o.Attribute), text.Printable(o.Directory), text.Printable(o.GUID)))
	} else {
		p.More(fmt.Sprintf("it lost the address since; directory %s, GUID %s", text.Printable(o.Directory),
			text.Printable(o.GUID)))
	}
	if !o.Learned.IsZero() && o.Class == "" {
		p.More("learned " + w.At(o.Learned))
	} else if !o.Learned.IsZero() {
		source, place := "", "USN"
		if o.Hub != "" {
			source, place = "stream ", "sequence"
		}
		p.More(fmt.Sprintf("learned %s, in pass %d from %s%s at %s %d", w.At(o.Learned), o.Pass, source,
			text.Printable(o.DomainController), place, o.USN))
	}
	if o.Hub != "" {
		p.More("published by hub " + text.Printable(o.Hub) + ", which follows " +
			text.Printable(cmp.Or(o.HubController, "no domain controller")))
	}
	if o.InternalOnly {
		p.More("internal-only: accepts mail from inside senders only")
	}
	if o.Gone {
		p.More(p.Warn("no longer in the directory; the removal is not in effect yet"))
	}
	if o.BecomesInternalOnly {
		p.More(p.Warn("internal-only in the directory; that is not in effect yet"))
	}
}
