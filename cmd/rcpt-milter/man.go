package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"rcpt-milter/docs"
	"rcpt-milter/internal/build"
)

func (a *app) manCommand() *cobra.Command {
	var dir string
	command := &cobra.Command{
		Use:   "man [COMMAND]",
		Short: "Print or write the manual pages",
		Long: "Prints a manual page in the form that man reads: of COMMAND, of the\n" +
			"configuration file (rcpt-milter.yaml), or of the whole program. With --dir it\n" +
			"writes all of them to files.\n\n" +
			"Exit status: 0 done, 1 failed.",
		Example: "rcpt-milter man | man -l -\nrcpt-milter man rcpt-milter.yaml | man -l -",
		RunE: func(command *cobra.Command, args []string) error {
			pages, err := manPages(command.Root())
			if err != nil {
				return err
			}
			if dir != "" && len(args) == 0 {
				return writePages(dir, pages)
			}
			if dir != "" {
				return &exitError{exitUsage, fmt.Errorf("--dir writes all pages, so it takes no %q", args[0])}
			}
			return a.printPage(pages, strings.Join(append([]string{command.Root().Name()}, args...), "-"))
		},
	}
	command.Flags().StringVar(&dir, "dir", "", "write all pages into man5 and man8 of this `DIRECTORY`")
	command.MarkFlagDirname("dir")
	return command
}

// manPages returns all pages by file name, such as rcpt-milter-status.8.
func manPages(root *cobra.Command) (map[string][]byte, error) {
	root.DisableAutoGenTag = true // omit the line with author and date
	built := builtAt()
	pages := map[string][]byte{docs.ConfigurationPage + ".5": docs.ConfigurationManual(programVersion(), built)}
	var add func(*cobra.Command) error
	add = func(command *cobra.Command) error {
		var page bytes.Buffer
		header := doc.GenManHeader{Section: "8", Date: &built, Source: "rcpt-milter " + programVersion(),
			Manual: "System Administration"}
		if err := doc.GenMan(command, &header, &page); err != nil {
			return fmt.Errorf("manual page of %q: %w", command.CommandPath(), err)
		}
		if command == root {
			insertSections(&page, root)
		}
		page.Truncate(len(bytes.TrimSpace(page.Bytes())))
		page.WriteString(", \\fB" + docs.ConfigurationPage + "(5)\\fP\n") // the last section is SEE ALSO
		pages[strings.ReplaceAll(command.CommandPath(), " ", "-")+".8"] = page.Bytes()
		for _, c := range command.Commands() {
			if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
				if err := add(c); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return pages, add(root)
}

// builtAt returns the time of the commit, which makes pages reproducible. If the commit is
// unknown, it returns the present time.
func builtAt() time.Time {
	at, err := time.Parse(time.RFC3339, build.ReadSource().Time)
	if err != nil {
		return time.Now()
	}
	return at
}

// printPage prints the page with this name in any section.
func (a *app) printPage(pages map[string][]byte, name string) error {
	known := []string{}
	for file, page := range pages {
		stem := strings.TrimSuffix(file, filepath.Ext(file))
		if name == stem || name == "rcpt-milter-"+stem {
			_, err := a.stdout.Write(page)
			return err
		}
		known = append(known, stem)
	}
	slices.Sort(known)
	return &exitError{exitUsage, fmt.Errorf("there is no manual page %q; there are %s", name,
		strings.Join(known, ", "))}
}

func writePages(dir string, pages map[string][]byte) error {
	for file, page := range pages {
		section := filepath.Join(dir, "man"+filepath.Ext(file)[1:])
		if err := os.MkdirAll(section, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(section, file), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}
