package daemon

import (
	"fmt"
	"os"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/text"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// checkAcceptFiles reads the accept files like the daemon.
func (f *findings) checkAcceptFiles(c *config.Config, now func() time.Time) {
	ages := fileAges{max: c.AcceptFilesMaxAge, now: now}
	for _, file := range c.AcceptFiles {
		table, err := tables.ReadFile(file)
		if err != nil {
			f.problem("accept-file", fmt.Errorf("accept_files: %w%s", err, copyText(c, file)))
			continue
		}
		f.checkLines(file, table)
		if table.Len() == 0 {
			f.problem("accept-file-empty",
				fmt.Errorf("accept_files: %s has no entry, and looks like a file that lost its content%s; "+
					"take it out of accept_files, or put an address into it", file, copyText(c, file)))
			continue
		}
		f.checkCopy(c, file)
		f.checkEntries(file, table, c)
		f.checkFileAge(file, ages)
		aliases := ""
		if n := table.AliasCount(); n > 0 {
			aliases = ", " + text.Count(n, "domain alias", "domain aliases")
		}
		f.good("accept-file", "accept file %s: %s, %d of them whole domains%s", file,
			text.Count(table.Len(), "entry", "entries"), table.Domains(), aliases)
	}
}

// copyText says that the daemon uses a copy of a file in its place, if there is one.
func copyText(c *config.Config, file string) string {
	if !tables.HasCopy(copiesOf(c), file) {
		return ""
	}
	status, err := startWith(c, file)
	switch {
	case err != nil:
		return fmt.Sprintf("; the daemon will not start: %v", err)
	case status.Doubt != "":
		return "; its last good copy stays in effect, and it may lack entries: " + status.Doubt
	}
	return "; its last good copy stays in effect"
}

// startWith returns the state of a file after a start of the daemon.
func startWith(c *config.Config, file string) (tables.FileStatus, error) {
	files := tables.NewFiles(tables.Config{Copies: tables.Copies{Dir: copiesOf(c), ReadOnly: true}})
	p, err := files.Prepare([]string{file})
	if err != nil {
		return tables.FileStatus{}, err
	}
	files.Use(p)
	return files.Status()[0], nil
}

// checkCopy compares a file with its last good copy, like a start of the daemon.
func (f *findings) checkCopy(c *config.Config, file string) {
	if !tables.HasCopy(copiesOf(c), file) {
		return
	}
	s, err := startWith(c, file)
	if err != nil {
		return // it changed since it was read
	}
	if s.Trouble != "" {
		f.warning("accept-file-held", "accept_files: %s: %s", file, s.Trouble)
	}
	if s.Doubt != "" {
		f.warning("accept-file-doubt", "accept_files: %s may lack entries: %s", file, s.Doubt)
	}
}

// checkFileAge warns of a stale file.
func (f *findings) checkFileAge(file string, ages fileAges) {
	info, err := os.Stat(file)
	if err != nil {
		return // it went since it was read
	}
	if state := ages.state(info.ModTime()); state == policy.Stale {
		stale := control.AcceptFile{Modified: control.Time{Time: info.ModTime()}}
		f.warning("accept-file-stale", "accept_files: %s: %s", file, stale.StaleText(ages.now()))
	}
}

// checkLines warns of lines that are not entries, and of entries that are probably mistakes.
func (f *findings) checkLines(file string, table *tables.Table) {
	for _, c := range []struct {
		name  string
		lines func() ([]tables.Problem, int)
		end   string // of the warning about one line
		more  string // end of the warning about the others
	}{
		{"accept-line-invalid", table.Problems, "; the line does not count", "that do not count"},
		{"accept-line-literal", table.Literal, "", "that are taken literally"},
		{"accept-line-action", table.Actions, "", "with such an action"},
	} {
		first, all := c.lines()
		for _, p := range first {
			f.warning(c.name, "accept_files: %s, %v%s", file, p, c.end)
		}
		if more := all - len(first); more > 0 {
			f.warning(c.name, "accept_files: %s has %s more %s", file, text.Count(more, "line", "lines"), c.more)
		}
	}
}

// checkEntries warns of entries that do not have the effect that they seem to have.
func (f *findings) checkEntries(file string, table *tables.Table, c *config.Config) {
	first, _ := table.Unjudged(c.HasEntry)
	for _, p := range first {
		f.warning("accept-line-unjudged", "accept_files: %s, %v", file, p)
	}
	for _, a := range c.Refuse {
		if line := table.Line(a.String()); line != 0 {
			f.warning("accept-line-refused",
				"accept_files: %s, line %d: %q can never match: it is in refuse as well, which comes first", file, line,
				a)
		}
	}
	for domain, targets := range table.AllAliases() {
		_, line := table.Aliases(domain)
		for _, target := range targets {
			if !c.HasEntry(domain) || c.ModeOf(target) != config.Pass {
				continue
			}
			f.warning("alias-open",
				"accept_files: %s, line %d: every recipient of %s is accepted, because it is mapped to %s, "+
					"which is not judged here; add that to domains, or write domain_aliases: {%s: %s} where a "+
					"directory has its addresses", file, line, domain, target, domain, target)
		}
	}
}
