package postfix

import (
	"cmp"
	"maps"
	"strings"

	"rcpt-milter/internal/text"
)

// checkDaemon checks that the daemon answers and that its index is ready and fresh.
func (e *examination) checkDaemon() {
	switch e.daemon.State {
	case "":
		e.find("daemon-silent", Problem, "the daemon does not answer: "+e.daemon.Trouble,
			"Meanwhile Postfix takes its default action. Checks that need the index were skipped.",
			"systemctl start rcpt-milter")
	case "not_ready":
		e.find("index-not-ready", Problem, "a directory has not been read in full, or not since its rules changed",
			e.unknownGet()+" That lasts until its full pass has ended.", "rcpt-milter status",
			"rcpt-milter check --live")
	case "stale":
		e.find("index-stale", Problem, "the index is stale", e.unknownGet()+" That lasts until a pass succeeds.",
			"rcpt-milter status", "rcpt-milter check --live")
	case "late":
		e.find("index-late", Note, "the index is late", "New recipients are not known yet.", "rcpt-milter status")
	}
	for _, file := range e.daemon.StaleFiles {
		e.find("accept-file-stale", Problem, "an accept file is stale: "+file,
			"Recipients that no other list or directory has get the reply of when_stale.", "rcpt-milter status")
	}
	switch e.daemon.Store {
	case "failed":
		e.find("store-failed", Problem, "the index cannot be read", "All its recipients get 451.", "rcpt-milter status",
			"rcpt-milter check")
	case "damaged":
		e.find("store-damaged", Problem, "the index is damaged", "Recipients that it does not find get 451.",
			"rcpt-milter status", "rcpt-milter check")
	}
	e.checkInEffect()
	for _, alarm := range e.daemon.Alarms {
		e.find("daemon-alarm", Note, alarm, "The daemon has raised an alarm.", "rcpt-milter status")
	}
	var watched []string
	for _, domain := range sortedDomains(e.daemon.Domains) {
		if e.daemon.Domains[domain] == "report" {
			watched = append(watched, domain)
		}
	}
	if len(watched) > 0 {
		e.find("mode-report", Note, "no recipient is rejected in "+text.List(watched, 10)+" (mode report)",
			"This is right while you review what enforce would reject.", "rcpt-milter report", "in "+
				"config.yaml: "+watched[0]+": enforce")
	}
}

// unknownGet returns what unknown recipients get meanwhile, as a sentence.
func (e *examination) unknownGet() string {
	return sentence(e.daemon.Unknown, "unknown recipients get 451")
}

// sentence makes a sentence of what the daemon says, or of otherwise if it says nothing.
func sentence(said, otherwise string) string {
	said = cmp.Or(said, otherwise)
	return strings.ToUpper(said[:1]) + said[1:] + "."
}

// comparedFile explains why the configuration file must be in effect.
const comparedFile = "Doctor compares Postfix with the file, but the daemon still uses its previous configuration."

// checkInEffect checks that the daemon uses the configuration file, because the checks compare Postfix with that file.
func (e *examination) checkInEffect() {
	switch {
	case e.daemon.Rejected != "":
		first, _, _ := strings.Cut(e.daemon.Rejected, "\n")
		e.find("config-rejected", Problem, "the daemon has rejected the configuration file: "+first, comparedFile,
			"rcpt-milter check", "rcpt-milter reload")
	case e.daemon.Modes != nil && !maps.Equal(e.daemon.Modes, e.daemon.Domains):
		e.find("config-not-loaded", Problem, "the daemon runs with other domains or modes than config.yaml has",
			comparedFile, "rcpt-milter reload")
	}
	if len(e.daemon.Restart) > 0 {
		e.find("config-restart", Note, "new values of "+text.List(e.daemon.Restart, 10)+" need a restart", comparedFile,
			"systemctl restart rcpt-milter")
	}
}
