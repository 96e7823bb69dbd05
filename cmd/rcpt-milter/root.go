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

// exit is an error that chooses the exit status.
type exit struct {
	status int
	err    error // nil: all has been said
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// app is what the commands share.
type app struct {
	stdin          io.Reader // nil: that of the process
	stdout, stderr io.Writer
	now            func() time.Time
	lockWait       time.Duration // how long serve waits for the daemon before it to let the store go
	configPath     string
}

// run is the whole program. It gives the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr, now: time.Now, lockWait: lockWait}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	began := false
	root := a.root()
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	root.SetArgs(args)
	root.SetErr(a.stderr)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !began { // it did not get past the command line
		hint := fmt.Sprintf("%s --help", command.CommandPath())
		err = &exit{exitUsage, fmt.Errorf("%s; see %q", inPlainWords(err), hint)}
	}
	return a.report(err)
}

// inPlainWords says in one line what is wrong with a command line. Of a value that cannot
// be read the package of the flags tells what its own functions think of it.
func inPlainWords(err error) string {
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

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// report says what went wrong, a sentence a line, and gives the exit status.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	status := exitFailure
	var chosen *exit
	switch {
	case errors.As(err, &chosen):
		if status = chosen.status; chosen.err == nil {
			return status
		}
	case errors.Is(err, control.ErrNotReachable):
		status = exitNotReachable
	}
	if errors.Is(err, context.Canceled) { // by a signal; where that was noticed is of no interest
		err = errors.New("interrupted")
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(a.stderr, "rcpt-milter: %s\n", text.Printable(line))
	}
	return status
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "rcpt-milter COMMAND",
		Short: "Refuses unknown recipients at RCPT TO, from an index that follows Active Directory",
		Long: "Refuses unknown recipients at RCPT TO, from an index that follows Active Directory.\n\n" +
			"Exit status of all commands: 3 daemon not reachable, 64 wrong usage, 78 bad configuration.",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(root *cobra.Command, _ []string) error {
			return &exit{exitUsage, fmt.Errorf("expected a command; see %q", root.Name()+" --help")}
		},
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", config.DefaultPath, "configuration `FILE`")
	root.MarkPersistentFlagFilename("config", "yaml", "yml")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddCommand(a.serveCommand(), a.checkCommand(), a.statusCommand(), a.lookupCommand(),
		a.syncCommand(), a.removalsCommand(), a.journalCommand(), a.compareCommand(), a.exportCommand(), a.doctorCommand(), a.reportCommand(),
		a.reloadCommand(), a.manCommand(), a.versionCommand())
	root.SetOut(a.stdout) // what the scripts are printed to is settled when their commands are made
	root.InitDefaultCompletionCmd()
	for _, command := range root.Commands() {
		if command.Name() == "completion" {
			needsShell(command)
		}
	}
	return root
}

// needsShell has the command of the completion scripts refuse what is no shell: it would
// print its help as if that were a script.
func needsShell(completion *cobra.Command) {
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
	completion.RunE = func(*cobra.Command, []string) error { return nil } // Args refuse everything
}

// noArguments is for commands that take flags only.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

// load reads the configuration; whatever is wrong with it has its own exit status.
func (a *app) load() (*config.Config, error) {
	c, err := config.Load(a.configPath)
	if err != nil {
		return nil, &exit{exitConfig, err}
	}
	return c, nil
}

// versionPatience is how long a daemon may take to say its version. With the time for its
// state it has to stay below the 10 s that a monitoring system waits.
const versionPatience = 2 * time.Second

// client is for the control socket that the configuration names. A daemon that runs by an
// earlier version of a file that is bad now can be asked all the same.
func (a *app) client() (*control.Client, error) {
	c, err := a.load()
	if err == nil {
		return control.NewClient(c.Control.Address), nil
	}
	if socket, readable := config.ControlSocket(a.configPath); readable {
		client := control.NewClient(socket.Address)
		ctx, cancel := context.WithTimeout(context.Background(), versionPatience)
		defer cancel()
		if _, nobody := client.Version(ctx); nobody == nil {
			return client, nil
		}
	}
	return nil, err
}
