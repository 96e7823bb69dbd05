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
			f.problem("accept-file", fmt.Errorf("accept_files: %w", err))
			continue
		}
		f.checkLines(file, table)
		if table.Len() == 0 {
			f.problem("accept-file-empty",
				fmt.Errorf("accept_files: %s has no entry, and looks like a file that lost its content; "+
					"take it out of accept_files, or put an address into it", file))
			continue
		}
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

// checkLines warns of lines that are no entries.
func (f *findings) checkLines(file string, table *tables.Table) {
	first, all := table.Problems()
	for _, p := range first {
		f.warning("accept-line-invalid", "accept_files: %s, %v; the line does not count", file, p)
	}
	if more := all - len(first); more > 0 {
		f.warning("accept-line-invalid",
			"accept_files: %s has %s more that do not count", file, text.Count(more, "line", "lines"))
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
				"accept_files: %s, line %d: %q can never match: it is in refuse as well, which comes first", file, line, a)
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
					"which is not judged here; add that to domains, or write domain_aliases: {%s: %s} where a directory "+
					"has its addresses", file, line, domain, target, domain, target)
		}
	}
}
