// Command rcpt-milter answers RCPT TO for Postfix from an index that follows Active
// Directory. "rcpt-milter serve" is the daemon; the other commands check its
// configuration, ask it and tell it what to do, over its control socket.
//
// Exit statuses, of all commands: 0 as it should be; 1 not; 3 the daemon is not
// reachable; 64 wrong usage; 78 bad configuration. "status" and "lookup" have a
// finer meaning of 1 and add 2, see their help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
