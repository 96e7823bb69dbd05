package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/internal/text"
)

// printStatus writes the status to be read: the state and what needs attention
// first, then the directories, then the numbers.
func (a *app) printStatus(s control.Status) error {
	p := newPage(a.stdout)
	a.write(p, s)
	_, err := io.WriteString(a.stdout, p.String())
	return err
}

func (a *app) write(p *page, s control.Status) {
	a.overall(p, s)
	for _, d := range s.Directories {
		a.directory(p, d)
	}
	domainTable(p, s)
	if !s.Offline {
		decisionTable(p, s)
	}
}

// meaning explains a state to whoever sees it for the first time.
var meaning = map[control.State]string{
	control.Late:     ", the index is older than it should be",
	control.Stale:    ", the index is too old to be trusted about whom it does not know",
	control.NotReady: ", a directory has never been read in full",
}

func (a *app) overall(p *page, s control.Status) {
	program := "rcpt-milter " + text.Printable(s.Version)
	if !s.Started.IsZero() {
		program += ", up " + text.Duration(a.now().Sub(s.Started.Time))
	}
	begin := "State: "
	if s.Offline {
		begin = p.painted("No daemon is running.", "31") + " Its index, as it was left: "
	}
	p.title(begin + p.state(s.State) + meaning[s.State])
	label := "alarm"
	for _, alarm := range s.Alarms {
		p.line(label, p.warn(text.Printable(alarm)))
		label = ""
	}
	label = "not ready"
	for _, domain := range s.EmptyDomains {
		p.line(label, p.warn(text.Printable(control.EmptyDomainText(domain))))
		label = ""
	}
	p.line("index", fmt.Sprintf("%s of %s", text.Count(s.Addresses, "address", "addresses"), text.Count(s.Objects, "object", "objects")))
	if s.Digest != "" {
		p.line("digest", p.halved(text.Printable(s.Digest)))
	}
	if s.Unparsed > 0 {
		unparsed(p, s)
	}
	if !s.StoreVerified.IsZero() {
		p.line("store verified", text.Age(a.now(), s.StoreVerified.Time))
	}
	for _, f := range s.AcceptFiles {
		a.acceptFile(p, f)
	}
	if s.Offline {
		return
	}
	p.line("sessions", text.Number(int64(s.Sessions)))
	a.confirm(p, s.Confirm)
	a.harvest(p, s.Harvest, s.HarvestClients)
	p.line("daemon", program)
	if own := programVersion(); s.Version != own {
		p.more(fmt.Sprintf("this command is %s: restart the daemon to run the same", own))
	}
	if s.ReloadError != "" {
		p.line("reload", p.warn("refused, the configuration before it is in force"))
		for line := range strings.SplitSeq(s.ReloadError, "\n") {
			p.more(text.Printable(line))
		}
	}
	if len(s.RestartNeeded) > 0 {
		p.line("restart needed", p.warn("for the new values of "+text.Printable(strings.Join(s.RestartNeeded, ", "))))
	}
}

// halved breaks a word that is too long for a line in its middle, not at the last letters.
func (p *page) halved(word string) string {
	half := len(word) / 2
	if room := p.room(); room >= columnsIn(word) || room < half || len(word) != columnsIn(word) {
		return word
	}
	return word[:half] + " " + word[half:]
}

func (a *app) acceptFile(p *page, f control.AcceptFile) {
	p.line("accept file", fmt.Sprintf("%s: %s, read %s", text.Printable(f.File), text.Count(f.Entries, "entry", "entries"), text.Age(a.now(), f.Read.Time)))
	if f.Trouble != "" {
		p.more(p.warn("its last good copy is in force since " + a.at(f.Since)))
		p.more(text.Printable(f.Trouble))
	}
	if f.Unread > 0 {
		p.more(p.warn(text.Count(f.Unread, "line does", "lines do") + " not count"))
		for _, line := range f.UnreadLines[:min(len(f.UnreadLines), 3)] {
			p.more(text.Printable(line))
		}
	}
	for _, line := range f.UnmatchedLines[:min(len(f.UnmatchedLines), 3)] {
		p.more(p.warn(text.Printable(line)))
	}
}

func (a *app) directory(p *page, d control.DirectoryStatus) {
	p.WriteString("\nDirectory " + text.Printable(d.Name) + ": " + p.state(d.State) + "\n")
	if d.LastError != "" {
		s := "last pass failed"
		if !d.FailingSince.IsZero() {
			s = "failing since " + a.at(d.FailingSince)
		}
		p.line("error", p.warn(s))
		p.more(text.Printable(d.LastError))
	}
	if !d.LastSuccess.IsZero() && (d.State != control.Fresh || d.LastError != "") {
		p.line("last good pass", a.at(d.LastSuccess))
	}
	if d.HeldRemovals > 0 {
		p.line("removals held", p.warn(text.Count(d.HeldRemovals, "address", "addresses")+", still accepted"))
		if d.HoldReason != "" {
			p.more(text.Printable(d.HoldReason))
		}
		p.more("list them with \"rcpt-milter removals\", then \"rcpt-milter removals approve\" or \"discard\"")
	}
	for _, w := range d.Warnings {
		p.line("warning", text.Printable(w))
	}
	retired := d.State == control.Retired
	if retired {
		p.line("retired", "no longer in the configuration; its addresses leave through the removal guard")
	} else {
		a.controller(p, d)
	}
	a.running(p, d)
	if !retired || d.LastIncremental != nil {
		a.pass(p, "last incremental", d.LastIncremental)
	}
	if !retired || d.LastFull != nil {
		a.pass(p, "last full", d.LastFull)
	}
	if d.LastFull != nil && d.FullPassReason != "" {
		p.more("full because " + text.Printable(d.FullPassReason))
	}
	if !d.NextPass.IsZero() {
		next := "due"
		if d.NextPass.After(a.now()) {
			next = text.Age(a.now(), d.NextPass.Time)
		}
		p.line("next pass", next)
	}
}

func (a *app) controller(p *page, d control.DirectoryStatus) {
	if d.DomainController == "" {
		p.line("domain controller", "none followed yet")
		return
	}
	p.line("domain controller", text.Printable(d.DomainController))
	p.line("invocationId", text.Printable(d.InvocationID))
	lag := "up to date"
	if n := d.USNLag(); n > 0 {
		lag = fmt.Sprintf("%d behind", n)
	}
	p.line("USN", fmt.Sprintf("%d of %d, %s", d.USN, d.HighestCommittedUSN, lag))
	if d.Notify {
		p.line("notification", "the controller tells when something changes")
	}
	if d.DeletedObjectsVisible != nil && !*d.DeletedObjectsVisible {
		p.line("deleted objects", p.warn("not visible: removals are noticed by full passes only"))
		p.more("give the account the right to list them, on a controller, as a domain administrator:")
		grant := d.DeletedObjectsGrant
		if len(grant) == 0 { // a daemon of before
			grant = directory.GrantDeletedObjects("DC=...", "")
		}
		for _, command := range grant {
			p.more(text.Printable(command))
		}
	}
}

func (a *app) running(p *page, d control.DirectoryStatus) {
	if d.Running == nil {
		return
	}
	s := text.Printable(d.Running.Kind) + " pass"
	if !d.Running.Started.IsZero() {
		s += " for " + text.Duration(a.now().Sub(d.Running.Started.Time))
	}
	p.line("running", s+", "+seen(*d.Running))
}

// seen is how far a pass under way has come.
func seen(e control.SyncEvent) string {
	if e.Expected > 0 {
		return fmt.Sprintf("%s of about %s", text.Number(e.Seen), text.Count(e.Expected, "object", "objects"))
	}
	return text.Count(e.Seen, "object", "objects")
}

func (a *app) pass(p *page, label string, pass *control.PassStatus) {
	if pass == nil {
		p.line(label, "none yet")
		return
	}
	s := text.Age(a.now(), pass.Started.Time) + ": " + outcome(*pass)
	if pass.Result != control.ResultOK {
		s += ", " + p.warn(text.Printable(pass.Result))
	}
	p.line(label, s)
}

// outcome is what a pass did, in a line.
func outcome(pass control.PassStatus) string {
	digits := 3
	if pass.Seconds >= 10 {
		digits = 0
	}
	return fmt.Sprintf("pass %d, %.*f s, %s seen, %s added, %s changed, %s removed", pass.Number, digits, pass.Seconds,
		text.Number(pass.Seen), text.Number(pass.Added), text.Number(pass.Changed), text.Number(pass.Removed))
}

// at is a moment for people: the time of day, and how long ago.
func (a *app) at(t control.Time) string {
	return fmt.Sprintf("%s (%s)", a.moment(t.Time), text.Age(a.now(), t.Time))
}

// moment is a time in the zone of whoever asks.
func (a *app) moment(t time.Time) string {
	return t.In(a.now().Location()).Format("2006-01-02 15:04:05 MST")
}

// domainTable lists the domains of the configuration and of the index.
func domainTable(p *page, s control.Status) {
	all := map[string]bool{}
	for domain := range s.Modes {
		all[domain] = true
	}
	for domain := range s.Domains {
		all[domain] = true
	}
	rows := [][]string{{"Domain", "Mode", "Addresses"}}
	for _, domain := range slices.Sorted(maps.Keys(all)) {
		mode, n := s.Modes[domain], text.Number(s.Domains[domain])
		if parent, ok := control.ParentMode(s.Modes, domain); mode == "" && ok {
			mode = parent
		}
		if mode == "" {
			mode = "-"
		}
		if strings.HasPrefix(domain, ".") {
			n = "" // its sub-domains stand by themselves
		}
		rows = append(rows, []string{text.Printable(domain), text.Printable(mode), n})
	}
	table(p, 2, rows)
}

// decisionTable lists the verdicts that were given, the most frequent first.
func decisionTable(p *page, s control.Status) {
	var verdicts []string
	for verdict, n := range s.Decisions {
		if n > 0 {
			verdicts = append(verdicts, verdict)
		}
	}
	if len(verdicts) == 0 {
		p.WriteString("\nNo recipient judged since the start.\n")
		return
	}
	slices.SortFunc(verdicts, func(x, y string) int {
		if s.Decisions[x] != s.Decisions[y] {
			return int(min(1, max(-1, s.Decisions[y]-s.Decisions[x])))
		}
		return strings.Compare(x, y)
	})
	rows := [][]string{{"Verdict", "Recipients", "Would refuse"}}
	for _, verdict := range verdicts {
		would := ""
		if n := s.WouldRefuse[verdict]; n > 0 {
			would = text.Number(n)
		}
		rows = append(rows, []string{text.Printable(verdict), text.Number(s.Decisions[verdict]), would})
	}
	table(p, 1, rows)
}

// table writes rows in columns, the first row being their titles. Columns from the
// given one on hold numbers.
func table(p *page, numbers int, rows [][]string) {
	var columns []int
	for column := numbers; column < len(rows[0]); column++ {
		columns = append(columns, column)
	}
	tableOf(p, rows, columns...)
}

// tableOf is table where any columns hold numbers.
func tableOf(p *page, rows [][]string, numbers ...int) {
	if len(rows) < 2 {
		return
	}
	if p.cut {
		narrow(rows, p.width)
	}
	for _, column := range numbers {
		width := 0
		for _, row := range rows {
			width = max(width, len(row[column]))
		}
		for _, row := range rows {
			row[column] = strings.Repeat(" ", width-len(row[column])) + row[column]
		}
	}
	p.WriteString("\n" + aligned(rows))
}

// gap is what stands between two columns of a table.
const gap = 3

// narrow shortens the first column of a table, so that the others fit the width as well.
func narrow(rows [][]string, width int) {
	first, all := 0, 0
	for column := range rows[0] {
		widest := 0
		for _, row := range rows {
			widest = max(widest, columnsIn(row[column]))
		}
		if column == 0 {
			first = widest
		} else {
			all += gap + widest
		}
	}
	room := max(width-all, 8)
	if first <= room {
		return
	}
	for _, row := range rows {
		if columnsIn(row[0]) > room {
			row[0] = cut(row[0], room-1) + "…"
		}
	}
}

// aligned writes rows in columns.
func aligned(rows [][]string) string {
	var text, trimmed strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, gap, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
	for line := range strings.Lines(text.String()) {
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return trimmed.String()
}
