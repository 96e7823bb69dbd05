package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/internal/text"
)

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon reload its configuration",
		Long: "Makes the daemon reload its configuration, like SIGHUP, and shows what changed.\n" +
			"No session ends, and a directory that did not change keeps its connection. Keys\n" +
			"that need a restart are listed, and keep their old values until then. A file\n" +
			"with an error is rejected as a whole.\n\n" +
			"Exit status: 0 the configuration is in effect, 78 it is rejected and the\n" +
			"previous one stays in effect.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.reload(command.Context()) },
	}
}

func (a *app) reload(ctx context.Context) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	done, err := client.Reload(ctx)
	if err != nil {
		return err
	}
	if done.Refused != "" {
		return &exitError{exitConfig, errors.New(done.Refused +
			"\nthe configuration is rejected; the previous one stays in effect")}
	}
	s := "The configuration is in effect.\n"
	switch {
	case len(done.Changed) > 0:
		s = "The configuration is in effect. Changed: " + text.Printable(strings.Join(done.Changed, ", ")) + "\n"
	case len(done.AcceptFiles) == 0:
		s = "The configuration is in effect. Nothing has changed.\n"
	}
	for _, file := range done.AcceptFiles {
		s += "Accept file " + text.Printable(file) + ".\n"
	}
	if len(done.Restart) > 0 {
		s += "Changed, but in effect only after a restart: " + text.Printable(strings.Join(done.Restart, ", ")) + "\n"
	}
	_, err = fmt.Fprint(a.stdout, s)
	return err
}
