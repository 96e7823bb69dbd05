package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// printStatus prints a status: first the state and what needs attention, then the directories,
// then the numbers.
func (a *app) printStatus(s control.Status) error {
	p := terminal.NewPage(a.stdout)
	a.writeStatus(p, s)
	_, err := io.WriteString(a.stdout, p.String())
	return err
}

func (a *app) writeStatus(p *terminal.Page, s control.Status) {
	a.overview(p, s)
	for _, d := range s.Directories {
		a.directoryLines(p, d)
	}
	domainTable(p, s)
	if !s.Offline {
		decisionTable(p, s)
	}
}

// stateMeanings explains the states.
var stateMeanings = map[control.State]string{
	control.Late:     ", the index is older than it should be",
	control.Stale:    ", the index is stale; unknown recipients are deferred",
	control.NotReady: ", a directory has never been read in full",
}

func (a *app) overview(p *terminal.Page, s control.Status) {
	program := "rcpt-milter " + text.Printable(s.Version)
	if !s.Started.IsZero() {
		program += ", up " + text.Duration(a.now().Sub(s.Started.Time))
	}
	begin := "State: "
	if s.Offline {
		begin = p.Paint("No daemon is running.", "31") + " Its index, as it was left: "
	}
	p.Title(begin + stateWords(p, s.State) + stateMeanings[s.State])
	label := "alarm"
	for _, alarm := range s.Alarms {
		p.Line(label, p.Warn(text.Printable(alarm)))
		label = ""
	}
	label = "not ready"
	for _, domain := range s.EmptyDomains {
		p.Line(label, p.Warn(text.Printable(control.EmptyDomainText(domain))))
		label = ""
	}
	p.Line("index", fmt.Sprintf("%s of %s", text.Count(s.Addresses, "address", "addresses"),
		text.Count(s.Objects, "object", "objects")))
	if s.Digest != "" {
		p.Line("digest", breakInHalf(p, text.Printable(s.Digest)))
	}
	if s.Unparsed > 0 {
		unparsed(p, s)
	}
	if !s.StoreVerified.IsZero() {
		p.Line("store verified", text.Age(a.now(), s.StoreVerified.Time))
	}
	for _, f := range s.AcceptFiles {
		a.acceptFile(p, f)
	}
	if s.Offline {
		return
	}
	p.Line("sessions", text.Number(int64(s.Sessions)))
	a.confirmLines(p, s.Confirm)
	a.harvestLines(p, s.Harvest, s.HarvestClients)
	p.Line("daemon", program)
	if own := programVersion(); s.Version != own {
		p.More(fmt.Sprintf("this command is %s: restart the daemon to run the same", own))
	}
	if s.ReloadError != "" {
		p.Line("reload", p.Warn("rejected; the previous configuration stays in effect"))
		for line := range strings.SplitSeq(s.ReloadError, "\n") {
			p.More(text.Printable(line))
		}
	}
	if len(s.RestartNeeded) > 0 {
		p.Line("restart needed", p.Warn("for the new values of "+text.Printable(strings.Join(s.RestartNeeded, ", "))))
	}
}

// shownUnparsed is how many unusable values are printed.
const shownUnparsed = 3

// unparsed writes the number of unusable values, and the first of them.
func unparsed(p *terminal.Page, s control.Status) {
	p.Line("unreadable", text.Count(s.Unparsed, "value", "values")+" in the directories that cannot be read as an address")
	for _, v := range s.UnparsedValues[:min(len(s.UnparsedValues), shownUnparsed)] {
		p.More(text.Printable(v.Text()))
	}
	if more := s.Unparsed - shownUnparsed; more > 0 && len(s.UnparsedValues) > shownUnparsed {
		p.More("and " + text.Count(more, "other", "others") + "; \"rcpt-milter status --json\" lists them")
	}
}

// breakInHalf breaks a word that is too long for a line in its middle.
func breakInHalf(p *terminal.Page, word string) string {
	half := len(word) / 2
	if room := p.Room(); room >= terminal.Width(word) || room < half || len(word) != terminal.Width(word) {
		return word
	}
	return word[:half] + " " + word[half:]
}

func (a *app) acceptFile(p *terminal.Page, f control.AcceptFile) {
	p.Line("accept file", fmt.Sprintf("%s: %s, read %s", text.Printable(f.File), text.Count(f.Entries, "entry",
		"entries"), text.Age(a.now(), f.Read.Time)))
	if f.Trouble != "" {
		p.More(p.Warn("its last good copy has been in effect since " + a.at(f.Since)))
		p.More(text.Printable(f.Trouble))
	}
	if f.Unread > 0 {
		p.More(p.Warn(text.Count(f.Unread, "line does", "lines do") + " not count"))
		for _, line := range f.UnreadLines[:min(len(f.UnreadLines), 3)] {
			p.More(text.Printable(line))
		}
	}
	for _, line := range f.UnmatchedLines[:min(len(f.UnmatchedLines), 3)] {
		p.More(p.Warn(text.Printable(line)))
	}
}

func (a *app) directoryLines(p *terminal.Page, d control.DirectoryStatus) {
	p.WriteString("\nDirectory " + text.Printable(d.Name) + ": " + stateWords(p, d.State) + "\n")
	if d.LastError != "" {
		s := "last pass failed"
		if !d.FailingSince.IsZero() {
			s = "failing since " + a.at(d.FailingSince)
		}
		p.Line("error", p.Warn(s))
		p.More(text.Printable(d.LastError))
	}
	if !d.LastSuccess.IsZero() && (d.State != control.Fresh || d.LastError != "") {
		p.Line("last good pass", a.at(d.LastSuccess))
	}
	if d.HeldRemovals > 0 {
		p.Line("removals held", p.Warn(text.Count(d.HeldRemovals, "address", "addresses")+", still accepted"))
		if d.HoldReason != "" {
			p.More(text.Printable(d.HoldReason))
		}
		p.More("list them with \"rcpt-milter removals\", then \"rcpt-milter removals approve\" or \"discard\"")
	}
	for _, w := range d.Warnings {
		p.Line("warning", text.Printable(w))
	}
	retired := d.State == control.Retired
	if retired {
		p.Line("retired", "no longer in the configuration; its addresses leave through the removal guard")
	} else {
		a.controllerLines(p, d)
	}
	a.runningLine(p, d)
	if !retired || d.LastIncremental != nil {
		a.passLine(p, "last incremental", d.LastIncremental)
	}
	if !retired || d.LastFull != nil {
		a.passLine(p, "last full", d.LastFull)
	}
	if d.LastFull != nil && d.FullPassReason != "" {
		p.More("full because " + text.Printable(d.FullPassReason))
	}
	if !d.NextPass.IsZero() {
		next := "due"
		if d.NextPass.After(a.now()) {
			next = text.Age(a.now(), d.NextPass.Time)
		}
		p.Line("next pass", next)
	}
}

func (a *app) controllerLines(p *terminal.Page, d control.DirectoryStatus) {
	if d.DomainController == "" {
		p.Line("domain controller", "none followed yet")
		return
	}
	p.Line("domain controller", text.Printable(d.DomainController))
	p.Line("invocationId", text.Printable(d.InvocationID))
	lag := "up to date"
	if n := d.USNLag(); n > 0 {
		lag = fmt.Sprintf("%d behind", n)
	}
	p.Line("USN", fmt.Sprintf("%d of %d, %s", d.USN, d.HighestCommittedUSN, lag))
	if d.Notify {
		p.Line("notification", "the controller tells when something changes")
	}
	if d.DeletedObjectsVisible != nil && !*d.DeletedObjectsVisible {
		p.Line("deleted objects", p.Warn("not visible: removals are noticed by full passes only"))
		p.More("give the account the right to list them, on a controller, as a domain administrator:")
		grant := d.DeletedObjectsGrant
		if len(grant) == 0 { // from a daemon of an earlier version
			grant = directory.GrantDeletedObjects("DC=...", "")
		}
		for _, command := range grant {
			p.More(text.Printable(command))
		}
	}
}

func (a *app) runningLine(p *terminal.Page, d control.DirectoryStatus) {
	if d.Running == nil {
		return
	}
	s := text.Printable(d.Running.Kind) + " pass"
	if !d.Running.Started.IsZero() {
		s += " for " + text.Duration(a.now().Sub(d.Running.Started.Time))
	}
	p.Line("running", s+", "+progressOf(*d.Running))
}

// progressOf returns the progress of a running pass.
func progressOf(e control.SyncEvent) string {
	if e.Expected > 0 {
		return fmt.Sprintf("%s of about %s", text.Number(e.Seen), text.Count(e.Expected, "object", "objects"))
	}
	return text.Count(e.Seen, "object", "objects")
}

func (a *app) passLine(p *terminal.Page, label string, pass *control.PassStatus) {
	if pass == nil {
		p.Line(label, "none yet")
		return
	}
	s := text.Age(a.now(), pass.Started.Time) + ": " + passSummary(*pass)
	if pass.Result != control.ResultOK {
		s += ", " + p.Warn(text.Printable(pass.Result))
	}
	p.Line(label, s)
}

// passSummary returns what a pass did.
func passSummary(pass control.PassStatus) string {
	digits := 3
	if pass.Seconds >= 10 {
		digits = 0
	}
	return fmt.Sprintf("pass %d, %.*f s, %s seen, %s added, %s changed, %s removed", pass.Number, digits, pass.Seconds,
		text.Number(pass.Seen), text.Number(pass.Added), text.Number(pass.Changed), text.Number(pass.Removed))
}

// at returns the time of day, and the distance to now.
func (a *app) at(t control.Time) string {
	return fmt.Sprintf("%s (%s)", a.moment(t.Time), text.Age(a.now(), t.Time))
}

// moment returns a time in the local zone.
func (a *app) moment(t time.Time) string {
	return t.In(a.now().Location()).Format("2006-01-02 15:04:05 MST")
}

// domainTable writes the domains of the configuration and of the index.
func domainTable(p *terminal.Page, s control.Status) {
	rows := [][]string{{"Domain", "Mode", "Addresses"}}
	for _, d := range s.DomainRows() {
		n := text.Number(d.Addresses)
		if d.Pattern {
			n = ""
		}
		rows = append(rows, []string{text.Printable(d.Domain), text.Printable(cmp.Or(d.Mode, "-")), n})
	}
	p.Table(rows, 2)
}

// decisionTable writes the verdicts that occurred.
func decisionTable(p *terminal.Page, s control.Status) {
	verdicts := s.VerdictRows()
	if len(verdicts) == 0 {
		p.WriteString("\nNo recipient judged since the start.\n")
		return
	}
	rows := [][]string{{"Verdict", "Recipients", "Would refuse"}}
	for _, v := range verdicts {
		would := ""
		if v.WouldRefuse > 0 {
			would = text.Number(v.WouldRefuse)
		}
		rows = append(rows, []string{text.Printable(v.Verdict), text.Number(v.Recipients), would})
	}
	p.Table(rows, 1, 2)
}
