// Package console writes the status of a daemon, its answer to a lookup and the question before an approval, as text
// for a terminal.
// Nothing that it writes controls the terminal, whatever the daemon sent.
package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// Writer writes to pages.
type Writer struct {
	Now     func() time.Time
	Version string // of the program that prints
}

// Status writes a status: first the state and what needs attention, then the directories, then the
// numbers.
func (w Writer) Status(p *terminal.Page, s control.Status) {
	w.overview(p, s)
	for _, d := range s.Directories {
		w.directoryLines(p, d, s.Offline)
	}
	w.publishSection(p, s)
	domainTable(p, s)
	if !s.Offline {
		decisionTable(p, s)
	}
}

// stateMeanings explains the states.
var stateMeanings = map[control.State]string{
	control.Late:     ", the index is older than it should be",
	control.Stale:    ", the index of a directory is older than stale_after",
	control.NotReady: ", a directory must be read in full first",
}

// stateMeaning explains the state of the whole index, which accept files can make stale too.
func stateMeaning(s control.Status) string {
	stale := func(d control.DirectoryStatus) bool { return d.State == control.Stale }
	if s.State == control.Stale && !slices.ContainsFunc(s.Directories, stale) {
		return ", an accept file is stale"
	}
	return stateMeanings[s.State]
}

func (w Writer) overview(p *terminal.Page, s control.Status) {
	program := "rcpt-milter " + text.Printable(s.Version)
	if !s.Started.IsZero() {
		program += ", up " + text.Duration(w.Now().Sub(s.Started.Time))
	}
	begin := "State: "
	if s.Offline {
		begin = p.Paint("No daemon is running.", terminal.Red) + " Its index, as it was left: "
	}
	meaning := stateMeaning(s)
	if reply := s.UnknownText(s.State); reply != "" && !s.Offline {
		meaning += "; in its enforced domains, " + text.Printable(reply)
	}
	p.Title(begin + StateWords(p, s.State) + meaning)
	if s.Host != "" {
		p.Line("host", text.Printable(s.Host))
	}
	label := "alarm"
	for _, alarm := range s.Alarms {
		p.Line(label, p.Warn(text.Printable(alarm)))
		label = ""
	}
	label = "closed"
	for _, l := range s.Closed() {
		p.Line(label, p.Warn(text.Printable(l.Text())))
		p.More("since " + w.At(l.Since))
		label = ""
	}
	label = "not ready"
	for _, domain := range s.EmptyDomains {
		p.Line(label, p.Warn(text.Printable(s.EmptyDomainText(domain))))
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
		p.Line("store verified", text.Age(w.Now(), s.StoreVerified.Time))
	}
	for _, f := range s.AcceptFiles {
		w.acceptFile(p, f)
	}
	if s.Offline {
		return
	}
	w.exportLines(p, s.Export)
	if m := s.Socketmap; m != nil {
		p.Line("socketmap", fmt.Sprintf("%s found, %s not found, %s cannot tell", text.Number(m.OK),
			text.Number(m.NotFound), text.Number(m.Temp)))
		if m.Perm > 0 {
			p.More(p.Warn(text.Count(m.Perm, "request was", "requests were") + " malformed or for another map; see " +
				"the log"))
		}
	}
	p.Line("sessions", text.Number(int64(s.Sessions)))
	listenerLines(p, s)
	w.confirmLines(p, s.Confirm)
	w.harvestLines(p, s.Harvest, s.HarvestClients)
	p.Line("daemon", program)
	if s.Version != w.Version {
		p.More(fmt.Sprintf("this command is %s: restart the daemon to run the same", w.Version))
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

// listenerLines writes which listeners reached a limit, and whether file descriptors run out.
func listenerLines(p *terminal.Page, s control.Status) {
	seen := map[string]bool{} // the listeners for Postfix share their connections
	for _, l := range s.Listeners {
		if seen[l.Name] {
			continue
		}
		seen[l.Name] = true
		name := text.Printable(l.Name)
		if l.AtLimit > 0 {
			p.Line("at its limit", p.Warn(fmt.Sprintf("%s: %s came when %s were open", name,
				text.Count(l.AtLimit, "connection", "connections"), text.Number(int64(l.Limit)))))
		}
		if l.AcceptErrors > 0 {
			p.Line("not accepted", p.Warn(fmt.Sprintf("%s: %s; the log has the reason", name,
				text.Count(l.AcceptErrors, "attempt failed", "attempts failed"))))
		}
	}
	if d := s.Descriptors; d.Limit > 0 && d.Open*10 > d.Limit*9 {
		p.Line("descriptors", p.Warn(fmt.Sprintf("%s of %s are open; raise LimitNOFILE of the service",
			text.Number(int64(d.Open)), text.Number(int64(d.Limit)))))
	}
}

// shownUnparsed is how many unusable values are printed.
const shownUnparsed = 3

// unparsed writes the number of unusable values, and the first of them.
func unparsed(p *terminal.Page, s control.Status) {
	p.Line("unreadable", text.Count(s.Unparsed, "value", "values")+" in the directories that cannot be read as an "+
		"address")
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

func (w Writer) acceptFile(p *terminal.Page, f control.AcceptFile) {
	p.Line("accept file", fmt.Sprintf("%s: %s, read %s", text.Printable(f.File), text.Count(f.Entries, "entry",
		"entries"), text.Age(w.Now(), f.Read.Time)))
	if f.State == control.Stale {
		p.More(p.Warn("stale") + ", modified " + w.At(f.Modified))
		p.More(f.StaleText(w.Now()))
	}
	if f.Trouble != "" {
		p.More(p.Warn("its last good copy has been in effect since " + w.At(f.Since)))
		p.More(text.Printable(f.Trouble))
	}
	if f.Unread > 0 {
		p.More(p.Warn(text.Count(f.Unread, "line does", "lines do") + " not count"))
		for _, line := range f.UnreadLines[:min(len(f.UnreadLines), 3)] {
			p.More(text.Printable(line))
		}
	}
	if f.Suspicious > 0 {
		p.More(p.Warn(text.Count(f.Suspicious, "line counts", "lines count") + ", but probably not as intended"))
		for _, line := range f.SuspiciousLines[:min(len(f.SuspiciousLines), 3)] {
			p.More(text.Printable(line))
		}
	}
	for _, line := range f.UnmatchedLines[:min(len(f.UnmatchedLines), 3)] {
		p.More(p.Warn(text.Printable(line)))
	}
}

// exportLines writes the state of the file that the daemon keeps current.
func (w Writer) exportLines(p *terminal.Page, e *control.ExportStatus) {
	if e == nil {
		return
	}
	s := "not current since the start"
	if !e.Current.IsZero() {
		s = fmt.Sprintf("%s, current %s", text.Count(e.Entries, "entry", "entries"), text.Age(w.Now(), e.Current.Time))
	}
	p.Line("export", text.Printable(e.File)+": "+s)
	if e.Held != "" {
		p.More(p.Warn("the last good file stays: " + text.Printable(e.Held)))
	}
	if e.Union != "" {
		p.More(p.Warn("no entry leaves the file: " + text.Printable(e.Union)))
		p.More(text.Count(e.Kept, "entry", "entries") + " of an older list only")
	}
	if e.Trouble != "" {
		p.More(p.Warn("failing since " + w.At(e.Since)))
		p.More(text.Printable(e.Trouble))
	}
}

func (w Writer) directoryLines(p *terminal.Page, d control.DirectoryStatus, offline bool) {
	p.WriteString("\nDirectory " + text.Printable(d.Name) + ": " + StateWords(p, d.State) + "\n")
	if d.LastError != "" {
		s := "last pass failed"
		if !d.FailingSince.IsZero() {
			s = "failing since " + w.At(d.FailingSince)
		}
		p.Line("error", p.Warn(s))
		p.More(text.Printable(d.LastError))
	}
	if !d.LastSuccess.IsZero() && (d.State != control.Fresh || d.LastError != "") {
		p.Line("last good pass", w.At(d.LastSuccess))
	}
	if d.HeldRemovals > 0 {
		p.Line("removals held", p.Warn(text.Count(d.HeldRemovals, "address", "addresses")+", still accepted"))
		if d.HoldReason != "" {
			p.More(text.Printable(d.HoldReason))
		}
		p.More("list them with \"rcpt-milter removals\", then \"rcpt-milter removals approve\" or \"discard\"")
	}
	for _, warning := range d.Warnings {
		p.Line("warning", text.Printable(warning))
	}
	retired := d.State == control.Retired
	if retired {
		p.Line("retired", "no longer in the configuration; its addresses leave through the removal guard")
	} else {
		w.controllerLines(p, d, offline)
	}
	w.runningLine(p, d)
	if !retired || d.LastIncremental != nil {
		w.passLine(p, "last incremental", d.LastIncremental)
	}
	if !retired || d.LastFull != nil {
		w.passLine(p, "last full", d.LastFull)
	}
	if d.LastFull != nil && d.FullPassReason != "" {
		p.More("full because " + text.Printable(d.FullPassReason))
	}
	if !d.NextPass.IsZero() {
		next := "due"
		if d.NextPass.After(w.Now()) {
			next = text.Age(w.Now(), d.NextPass.Time)
		}
		p.Line("next pass", next)
	}
}

func (w Writer) controllerLines(p *terminal.Page, d control.DirectoryStatus, offline bool) {
	if d.Stream != nil {
		w.streamLines(p, d)
		return
	}
	if d.DomainController == "" {
		p.Line("domain controller", "none followed yet")
		return
	}
	p.Line("domain controller", text.Printable(d.DomainController))
	p.Line("invocationId", text.Printable(d.InvocationID))
	p.Line("USN", fmt.Sprintf("%d of %d, %s", d.USN, d.HighestCommittedUSN, lagWords(d, offline)))
	if d.Notify {
		p.Line("notification", "the controller tells when something changes")
	}
	w.expiryLines(p, d.Expiry)
	if d.DeletedObjectsVisible != nil && !*d.DeletedObjectsVisible {
		p.Line("deleted objects", p.Warn("not visible: removals are noticed by full passes only"))
		p.More("give the account the right to list them, on a controller, as a domain administrator:")
		for _, command := range d.DeletedObjectsGrant {
			p.More(text.Printable(command))
		}
	}
}

// expiryLines writes when a directory can no longer be read.
func (w Writer) expiryLines(p *terminal.Page, e *control.ExpiryStatus) {
	if e == nil {
		return
	}
	for _, of := range []struct {
		name, subject string
		at            control.Time
	}{{"certificates", "one ", e.Certificate}, {"password", "", e.Password}, {"account", "", e.Account}} {
		if !of.at.IsZero() {
			p.Line(of.name, w.expiryText(p, of.subject, of.at))
		}
	}
}

// lagWords says how far the index is behind its controller or hub. Without a running daemon it cannot be
// up to date.
func lagWords(d control.DirectoryStatus, offline bool) string {
	if n := d.USNLag(); n > 0 {
		return fmt.Sprintf("%d behind", n)
	}
	if d.UpToDate() && !offline {
		return "up to date"
	}
	return "as of the last good pass"
}

func (w Writer) runningLine(p *terminal.Page, d control.DirectoryStatus) {
	if d.Running == nil {
		return
	}
	s := text.Printable(d.Running.Kind) + " pass"
	if !d.Running.Started.IsZero() {
		s += " for " + text.Duration(w.Now().Sub(d.Running.Started.Time))
	}
	p.Line("running", s+", "+Progress(*d.Running))
}

// Progress returns the progress of a running pass.
func Progress(e control.SyncEvent) string {
	if e.Expected > 0 {
		return fmt.Sprintf("%s of about %s", text.Number(e.Seen), text.Count(e.Expected, "object", "objects"))
	}
	return text.Count(e.Seen, "object", "objects")
}

func (w Writer) passLine(p *terminal.Page, label string, pass *control.PassStatus) {
	if pass == nil {
		p.Line(label, "none yet")
		return
	}
	s := text.Age(w.Now(), pass.Started.Time) + ": " + PassSummary(*pass)
	if pass.Result != control.ResultOK {
		s += ", " + p.Warn(text.Printable(pass.Result))
	}
	p.Line(label, s)
}

// PassSummary returns what a pass did.
func PassSummary(pass control.PassStatus) string {
	digits := 3
	if pass.Seconds >= 10 {
		digits = 0
	}
	return fmt.Sprintf("pass %d, %.*f s, %s seen, %s added, %s changed, %s removed", pass.Number, digits, pass.Seconds,
		text.Number(pass.Seen), text.Number(pass.Added), text.Number(pass.Changed), text.Number(pass.Removed))
}

// At returns the time of day, and the distance to now.
func (w Writer) At(t control.Time) string {
	return fmt.Sprintf("%s (%s)", text.Moment(w.Now(), t.Time), text.Age(w.Now(), t.Time))
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

// StateWords returns a state in words, coloured by severity.
func StateWords(p *terminal.Page, s control.State) string {
	words := strings.ReplaceAll(text.Printable(string(s)), "_", " ")
	colour := terminal.Red
	switch s {
	case control.Fresh:
		colour = terminal.Green
	case control.Late, control.Retired:
		colour = terminal.Yellow
	}
	return p.Paint(words, colour)
}
