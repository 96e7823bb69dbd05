package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/control/console"
	"rcpt-milter/daemon"
	"rcpt-milter/internal/text"
)

// Exit statuses; 64 and 78 are those of sysexits.h.
const (
	exitOK           = 0
	exitFailure      = 1
	exitTemporary    = 2 // of lookup, and "stale or not ready" of status
	exitNotReachable = 3
	exitUsage        = 64
	exitConfig       = 78
)

// helpColumns is the width of the help, which no terminal is narrower than.
const helpColumns = 80

// exitError is an error with its own exit status.
type exitError struct {
	status int
	err    error // nil if there is nothing to print
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// app holds what all commands share.
type app struct {
	stdin          io.Reader // nil is that of the process
	stdout, stderr io.Writer
	now            func() time.Time
	lockWait       time.Duration // how long serve waits for an earlier daemon to release the store
	fileRest       time.Duration // how long serve waits for an accept file to be at rest
	configPath     string
}

// run executes a command line, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr, now: time.Now, lockWait: lockWait, fileRest: fileRest}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	began := false
	root := a.root()
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	root.SetArgs(args)
	root.SetErr(a.stderr)
	command, err := root.ExecuteContextC(ctx)
	var chosen *exitError
	if err != nil && !began && !errors.As(err, &chosen) { // the command line is wrong
		err = usageError(command, err)
	}
	return a.report(err)
}

// usageError returns the error of a wrong command line, with what was probably meant.
func usageError(command *cobra.Command, err error) error {
	hint := fmt.Sprintf("; see %q", command.CommandPath()+" --help")
	if near := suggestion(command, err); near != "" {
		hint = fmt.Sprintf("; did you mean %q? See %q", near, command.CommandPath()+" --help")
	}
	return &exitError{exitUsage, errors.New(usageMessage(err) + hint)}
}

// usageMessage returns one line about a wrong command line. It replaces the errors of pflag
// about values, which name Go functions.
func usageMessage(err error) string {
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		flag := value.GetFlag()
		expected := map[string]string{"bool": "true or false", "duration": "a duration such as 500ms, 2s or 1m",
			"int": "a whole number", "uint64": "a whole number, not below 0"}[flag.Value.Type()]
		if expected != "" {
			return fmt.Sprintf("--%s: expected %s, got %q", flag.Name, expected, value.GetValue())
		}
	}
	return firstLine(err)
}

// suggestion returns the command or the flag that was probably meant, or "".
func suggestion(command *cobra.Command, err error) string {
	var names []string
	var flag *pflag.NotExistError
	if errors.As(err, &flag) {
		command.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := text.Nearest(flag.GetSpecifiedName(), names); near != "" {
			return "--" + near
		}
		return ""
	}
	for _, c := range command.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	_, typed, _ := strings.Cut(err.Error(), `"`) // unknown command "stauts", unexpected argument "aprove"
	typed, _, _ = strings.Cut(typed, `"`)
	return text.Nearest(typed, names)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// report prints an error, one sentence a line, and returns the exit status.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	status := exitFailure
	var chosen *exitError
	switch {
	case errors.As(err, &chosen):
		if status = chosen.status; chosen.err == nil {
			return status
		}
	case errors.Is(err, daemon.ErrConfig):
		status = exitConfig
	case errors.Is(err, control.ErrNotReachable):
		status = exitNotReachable
	}
	if errors.Is(err, context.Canceled) { // by a signal; the place does not matter
		err = errors.New("interrupted")
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(a.stderr, "rcpt-milter: %s\n", text.Printable(line))
	}
	return status
}

func (a *app) root() *cobra.Command {
	showVersion := false
	root := &cobra.Command{
		Use:   "rcpt-milter COMMAND",
		Short: "Rejects unknown recipients at RCPT TO, from an index of Active Directory",
		Long: "Rejects unknown recipients at RCPT TO, from an index of Active Directory.\n\n" +
			"Exit status of all commands: 3 daemon not reachable, 64 wrong usage, 78 bad\n" +
			"configuration.",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(root *cobra.Command, _ []string) error {
			if showVersion {
				return a.printVersion()
			}
			return &exitError{exitUsage, fmt.Errorf("expected a command; see %q", root.Name()+" --help")}
		},
	}
	root.SetUsageTemplate(strings.NewReplacer("FlagUsages", fmt.Sprintf("FlagUsagesWrapped %d", helpColumns),
		`[command] --help" for more information about a command`, `COMMAND --help" for the help of a command`,
	).Replace(root.UsageTemplate()))
	root.PersistentFlags().StringVar(&a.configPath, "config", config.DefaultPath, "use this `FILE`")
	root.Flags().BoolVar(&showVersion, "version", false, "show the version")
	root.MarkPersistentFlagFilename("config", "yaml", "yml")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddCommand(a.serveCommand(), a.checkCommand(), a.statusCommand(), a.lookupCommand(),
		a.syncCommand(), a.removalsCommand(), a.journalCommand(), a.compareCommand(), a.exportCommand(),
		a.doctorCommand(), a.reportCommand(), a.fleetCommand(), a.edgeCommand(),
		a.reloadCommand(), a.manCommand(), a.versionCommand())
	root.SetOut(a.stdout) // the completion command takes its output when it is created
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, command := range root.Commands() {
		switch command.Name() {
		case "completion":
			requireShell(command)
		case "help":
			command.Args = knownCommand
		}
	}
	return root
}

// requireShell makes the completion command reject anything but a shell. By default it prints
// its help, which a script would install.
func requireShell(completion *cobra.Command) {
	var shells []string
	for _, c := range completion.Commands() {
		shells = append(shells, c.Name())
	}
	known := strings.Join(shells, ", ")
	completion.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("expected a shell, one of %s", known)
		}
		return fmt.Errorf("unknown shell %q, expected one of %s", args[0], known)
	}
	completion.RunE = func(*cobra.Command, []string) error { return nil } // Args rejects everything
}

// knownCommand is for the command help. By default it prints the help of the program for an unknown command, and
// succeeds.
func knownCommand(help *cobra.Command, names []string) error {
	command, rest, err := help.Root().Find(names)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("unknown command %q for %q", rest[0], command.CommandPath())
	}
	if err != nil {
		return usageError(command, err)
	}
	return nil
}

// noArguments is for commands with flags only.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

// parsePast reads a time in the past: RFC 3339, local time, or a duration ago. Errors name the
// flag.
func (a *app) parsePast(flag, value string) (time.Time, error) {
	now := a.now()
	at, ok := text.ParseMoment(value, now)
	if !ok {
		return at, &exitError{exitUsage, fmt.Errorf("--%s: expected a duration (2h is two hours ago), a time such as "+
			"\"2026-01-31 15:04\", or one of RFC 3339, got %q", flag, value)}
	}
	if at.After(now) {
		return at, &exitError{exitUsage, fmt.Errorf("--%s: %s is in the future", flag, a.moment(at))}
	}
	return at, nil
}

// moment returns a time in the local zone.
func (a *app) moment(t time.Time) string { return text.Moment(a.now(), t) }

// console returns the writer of the text that people read.
func (a *app) console() console.Writer { return console.Writer{Now: a.now, Version: programVersion()} }

// load reads the configuration. Its errors have their own exit status.
func (a *app) load() (*config.Config, error) {
	c, err := config.Load(a.configPath)
	if err != nil {
		return nil, &exitError{exitConfig, err}
	}
	return c, nil
}

// versionTimeout limits the request for the version. Together with the request for the status
// it must stay below the 10 s that a monitoring system waits.
const versionTimeout = 2 * time.Second

// client returns a client for the control socket of the configuration. If the file is invalid
// now, but a daemon still runs by an earlier version of it, the client can reach that daemon.
func (a *app) client() (*control.Client, error) {
	c, err := a.load()
	if err == nil {
		return control.NewClient(c.Control.Address), nil
	}
	if socket, readable := config.ControlSocket(a.configPath); readable {
		client := control.NewClient(socket.Address)
		ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
		defer cancel()
		if _, versionErr := client.Version(ctx); versionErr == nil {
			return client, nil
		}
	}
	return nil, err
}
