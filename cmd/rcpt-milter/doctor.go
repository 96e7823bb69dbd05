package main

import (
	"context"
	"io"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
	"rcpt-milter/postfix"
	tables "rcpt-milter/postfix/table"
)

func (a *app) doctorCommand() *cobra.Command {
	var dir string
	var asJSON bool
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Find problems between Postfix and this daemon",
		Long: "Reads the settings of Postfix with postconf, looks at the socket, and queries\n" +
			"the daemon. It reports what is wrong between them, why that matters, and how to\n" +
			"correct it. It changes nothing. Run it as root on the host of Postfix. After a\n" +
			"change run \"postfix reload\" and doctor again.\n\n" +
			"Exit status: 0 no problem, though there may be notes, 1 a problem.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.doctor(command.Context(), dir, asJSON) },
	}
	command.Flags().StringVar(&dir, "postfix-config", "", "`DIR` of main.cf, for one instance of several")
	command.Flags().BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

// diagnosis is the output of doctor --json.
type diagnosis struct {
	Problems int               `json:"problems"`
	Notes    int               `json:"notes"`
	Findings []postfix.Finding `json:"findings"`
}

func (a *app) doctor(ctx context.Context, dir string, asJSON bool) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	host := postfix.NewLocalHost(ctx, dir)
	settings, err := host.Settings()
	if err != nil {
		return err
	}
	client := control.NewClient(c.Control.Address)
	w := doctorHost{LocalHost: host, ctx: ctx, client: client}
	usual := path.Join(settings.Value(nil, "queue_directory"), "rcpt-milter/milter.sock")
	daemon := daemonOf(ctx, c, client, usual, a.now())
	daemon.DelimiterSet = c.Has("recipient_delimiter")
	d := diagnosis{Findings: append([]postfix.Finding{}, postfix.Examine(settings, daemon, w)...)}
	for _, f := range d.Findings {
		if f.Level == postfix.Problem {
			d.Problems++
		} else {
			d.Notes++
		}
	}
	if asJSON {
		err = text.WriteJSON(a.stdout, d)
	} else {
		err = a.printDiagnosis(d)
	}
	if err == nil && d.Problems > 0 {
		return &exitError{status: exitFailure}
	}
	return err
}

// daemonOf returns what doctor needs to know about the daemon. If systemd passes the sockets,
// usual is the path in its unit.
func daemonOf(ctx context.Context, c *config.Config, client *control.Client, usual string,
	now time.Time) postfix.Daemon {
	d := postfix.Daemon{Domains: map[string]string{}, AlwaysAccept: c.AlwaysAccept, Connections: c.Limits.Connections,
		ExemptAuthenticated: c.Exempt.Authenticated, Export: c.Export.File, Delimiter: c.RecipientDelimiter}
	for _, l := range c.ListenSocketmap {
		if l.Network == "fd" {
			l = config.Endpoint{Network: "unix", Address: path.Join(path.Dir(usual), "map.sock")}
		}
		d.Socketmap = append(d.Socketmap, l.String())
	}
	if c.Confirm.Enabled {
		d.ReplyTimeout = c.Confirm.Timeout
	}
	for _, l := range c.Listen {
		if l.Network == "fd" {
			l = config.Endpoint{Network: "unix", Address: usual}
		}
		d.Listen = append(d.Listen, l.String())
	}
	for domain, mode := range c.Domains {
		d.Domains[domain] = string(mode)
	}
	d.Aliases = aliasesOf(c)
	s, err := client.Status(ctx)
	if err != nil {
		d.Trouble = err.Error()
		return d
	}
	addStatus(&d, s, now)
	return d
}

// addStatus adds what the daemon says of itself. The state is that of the directories alone, because accept files have
// reasons and remedies of their own.
func addStatus(d *postfix.Daemon, s control.Status, now time.Time) {
	d.Started, d.Empty, d.Alarms, d.Store = s.Started.Time, s.EmptyDomains, s.Alarms, string(s.StoreState)
	if len(d.Empty) > 0 {
		d.EmptyReply = control.EmptyDomainReply(s.WhenNotReady)
	}
	d.Rejected, d.Restart, d.Modes = s.ReloadError, s.RestartNeeded, s.Modes
	state := control.Fresh
	for _, directory := range s.Directories {
		state = control.Worst(state, directory.State)
	}
	d.State, d.Unknown = string(state), s.UnknownText(state)
	for _, f := range s.AcceptFiles {
		if f.State == control.Stale {
			d.StaleFiles = append(d.StaleFiles, f.File+": "+f.StaleText(now))
		}
	}
	for _, l := range s.Listeners {
		if l.Name == control.ListenerMilter {
			d.Possible = l.Limit
		}
	}
}

// aliasesOf returns the domain aliases of a configuration and of its accept files. It skips a
// file that cannot be read.
func aliasesOf(c *config.Config) map[string][]string {
	all := map[string][]string{}
	for alias := range c.DomainAliases {
		all[alias], _ = c.AliasTargets(alias)
	}
	for _, file := range c.AcceptFiles {
		table, err := tables.ReadFile(file)
		if err != nil {
			continue
		}
		for alias, targets := range table.AllAliases() {
			all[alias] = append(all[alias], targets...)
		}
	}
	return all
}

// doctorHost is a host with a daemon to ask.
type doctorHost struct {
	*postfix.LocalHost
	ctx    context.Context
	client *control.Client
}

var _ postfix.Host = doctorHost{}

// Judge asks the daemon as for an outside sender.
func (p doctorHost) Judge(all []address.Address) ([]postfix.Judgement, error) {
	var answers []postfix.Judgement
	for _, a := range all {
		l, err := p.client.Lookup(p.ctx, control.LookupQuery{Address: a.String()})
		if err != nil {
			return nil, err
		}
		// A temporary reply is no matter of the configuration.
		refused := l.Outcome == control.Refused || l.WouldRefuse && strings.HasPrefix(l.WouldReply, "5") ||
			l.InEmptyDomain()
		answers = append(answers, postfix.Judgement{Accepted: !refused, Owned: len(l.Owners) > 0})
	}
	return answers, nil
}

func (a *app) printDiagnosis(d diagnosis) error {
	p := &terminal.Page{Colours: terminal.HasColours(a.stdout)}
	for _, f := range d.Findings {
		head := p.Paint("problem", "31")
		if f.Level == postfix.Note {
			head = p.Warn("note")
		}
		p.WriteString(head + ": " + text.Printable(f.What) + " [" + f.Name + "]\n")
		p.Line("why", text.Printable(f.Why))
		label := "fix"
		for _, line := range f.Fix {
			p.Line(label, text.Printable(line))
			label = ""
		}
		p.WriteByte('\n')
	}
	p.WriteString(verdictOf(d) + "\n")
	_, err := io.WriteString(a.stdout, p.String())
	return err
}

func verdictOf(d diagnosis) string {
	switch {
	case d.Problems == 0 && d.Notes == 0:
		return "Nothing is wrong between Postfix and rcpt-milter."
	case d.Problems == 0:
		return "No problems, " + text.Count(d.Notes, "note", "notes") + "."
	default:
		return text.Count(d.Problems, "problem", "problems") + ", " + text.Count(d.Notes, "note",
			"notes") + ". After the fix: postfix reload, or rcpt-milter reload, and doctor again."
	}
}
