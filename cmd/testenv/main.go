// Command testenv takes the test harness up and down: a Samba AD domain controller, Postfix, a
// sink for the mail it delivers, and the daemon of this checkout, in containers.
//
//	go run ./cmd/testenv demo [--install] [--keep]      shows on the terminal what the daemon does
//	go run ./cmd/testenv demo --fleet                   shows a hub and two edges that cannot reach dc1
//	go run ./cmd/testenv test [-race] [go test flags]   runs all tests, end-to-end tests included
//	go run ./cmd/testenv measure [-n 50]                seconds from a directory change to the new answer
//	go run ./cmd/testenv up | down                      leaves a harness running; removes it
//	go run ./cmd/testenv clean                          removes the harness and its images
//	go run ./cmd/testenv install                        installs Docker and Compose (root on Debian)
//
// Missing images are built, which takes a few minutes the first time. Everything but images is
// removed at the end, also after Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: go run ./cmd/testenv COMMAND

  demo [--install] [--keep]   show on the terminal what the daemon does
                              --install: install and start Docker (root on Debian)
                              --keep: leave the harness running afterwards
                              --fleet: show a hub and two edges that cannot reach dc1
  test [-race] [FLAGS]        run all tests with a harness; FLAGS go to go test
  measure [-n 50]             seconds from a directory change to the edge's new answer
  up                          start a harness and leave it running for tests and people
  down                        remove the harness
  clean                       remove the harness and its images
  install                     install and start Docker if it is missing (root on Debian)
`

// exitUsage is EX_USAGE of sysexits(3).
const exitUsage = 64

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run runs one command and returns the exit status.
func run(ctx context.Context, args []string) int {
	commands := map[string]func(context.Context, []string) error{
		"demo": demo, "test": test, "measure": measure, "up": up, "down": down, "clean": clean,
		"install": installOnly,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	err := commands[args[0]](ctx, args[1:])
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "testenv: interrupted")
		return 130
	}
	fmt.Fprintln(os.Stderr, "testenv:", err)
	return 1
}

// exitStatus is the exit status of a command that has printed its own errors.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// errUsage means that the command line is wrong.
var errUsage = errors.New("usage")
