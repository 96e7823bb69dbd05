// Command rcpt-milter answers RCPT TO for Postfix from an index of the recipients in Active
// Directory. "rcpt-milter serve" is the daemon. The other commands check its configuration,
// query it and control it over its control socket.
//
// Exit statuses of all commands: 0 success, 1 failure, 3 daemon not reachable, 64 wrong usage,
// 78 bad configuration. The help of "status", "lookup" and others says what 1 and 2 mean there.
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
