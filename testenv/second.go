package testenv

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// joinDeadline bounds the first start of dc2, which takes half a minute where nothing
// else is going on.
const joinDeadline = 10 * time.Minute

// StartSecond makes sure that dc2 runs: a second domain controller of the domain, which
// joins it the first time. It stays for later tests until the harness is taken down or
// RemoveSecond.
func (h *Harness) StartSecond(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinDeadline)
	defer cancel()
	if _, err := mustRun(ctx, h.engine.composeCommand(ctx, "up", "--detach", "--no-build", "--no-deps", "--no-recreate", DC2)); err != nil {
		return err
	}
	return h.ensureRunning(ctx, DC2)
}

// RemoveSecond removes dc2 with its database. The domain goes on believing in it, as it
// does in a controller whose machine has burned. dc1 is restarted, because it would use
// the Kerberos tickets that it has for dc2 with another one of the same name.
func (h *Harness) RemoveSecond(ctx context.Context) error {
	id, err := h.engine.container(ctx, DC2)
	if err != nil {
		return err
	}
	if _, err := h.engine.docker(ctx, "rm", "--force", "--volumes", id); err != nil {
		return err
	}
	if _, err := h.engine.docker(ctx, "volume", "rm", h.engine.project+"_"+DC2); err != nil {
		return err
	}
	return h.Restart(ctx, DC)
}

// backupDir is where a backup of the domain is, in dc1.
const backupDir = "/var/lib/samba/backup"

// Backup makes a backup of the domain at dc1, from which dc2 is restored when it starts
// for the first time; see RemoveSecond. A dc2 that the domain believes in from before is
// forgotten: a controller cannot be restored under a name that is taken.
func (h *Harness) Backup(ctx context.Context) error {
	if _, err := h.Exec(ctx, DC, "samba-tool", "domain", "demote", "--remove-other-dead-server="+DC2); err != nil {
		return err
	}
	if err := h.mustExec(ctx, DC, "mkdir", backupDir); err != nil {
		return err
	}
	return h.sambaTool(ctx, DC, "domain", "backup", "offline", "--targetdir="+backupDir)
}

// RemoveBackup removes what Backup made.
func (h *Harness) RemoveBackup(ctx context.Context) error {
	return h.mustExec(ctx, DC, "rm", "-rf", backupDir)
}

// HasSecond reports whether there is a dc2, running or not.
func (h *Harness) HasSecond(ctx context.Context) bool {
	_, err := h.engine.container(ctx, DC2)
	return err == nil
}

// replicateDeadline bounds how long a controller that has just started may not replicate.
const replicateDeadline = time.Minute

// Replicate brings one domain controller what another one knows, and returns when it is
// there. One that has just started, or lost a connection to its partner, is asked again.
func (h *Harness) Replicate(ctx context.Context, from, to string) error {
	ctx, cancel := context.WithTimeout(ctx, replicateDeadline)
	defer cancel()
	return AwaitNil(ctx, time.Second, func(ctx context.Context) error {
		return h.drs(ctx, to, "replicate", to, from, BaseDN)
	})
}

// CutReplication keeps a domain controller from hearing of changes elsewhere and from
// telling of its own, or ends that.
func (h *Harness) CutReplication(ctx context.Context, service string, cut bool) error {
	sign := "-"
	if cut {
		sign = "+"
	}
	for _, option := range []string{"DISABLE_INBOUND_REPL", "DISABLE_OUTBOUND_REPL"} {
		if err := h.drs(ctx, service, "options", service, "--dsa-option="+sign+option); err != nil {
			return err
		}
	}
	return nil
}

// drs runs samba-tool drs in a domain controller's container.
func (h *Harness) drs(ctx context.Context, service string, args ...string) error {
	return h.sambaTool(ctx, service, append([]string{"drs"}, append(args, "-U", "Administrator%"+AdminPassword)...)...)
}

func (h *Harness) sambaTool(ctx context.Context, service string, args ...string) error {
	return h.mustExec(ctx, service, append([]string{"samba-tool"}, args...)...)
}

// mustExec runs a command in a container, which has to succeed.
func (h *Harness) mustExec(ctx context.Context, service string, argv ...string) error {
	out, err := h.Exec(ctx, service, argv...)
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("%s: %s: exit status %d: %s", service, strings.Join(argv, " "), out.Status, lastLines(out.Stdout+out.Stderr, 5))
	}
	return err
}

// Disconnect takes a service off the network: packets to it are lost. From this machine
// it cannot be reached either, but for Exec.
func (h *Harness) Disconnect(ctx context.Context, service string) error {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return err
	}
	_, err = h.engine.docker(ctx, "network", "disconnect", h.network(), id)
	return err
}

// Connect puts a service on the network again.
func (h *Harness) Connect(ctx context.Context, service string) error {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return err
	}
	_, err = h.engine.docker(ctx, "network", "connect", "--alias", HostOf(service), "--alias", service, h.network(), id)
	return err
}

// network is the name of the network of the harness.
func (h *Harness) network() string { return h.engine.project + "_edge" }

// Fates of a domain controller's database: see images/dc1/entrypoint.sh.
const (
	CopyDatabase    = "keep"     // its files are copied
	RestoreDatabase = "set-back" // the copy is put back: the same invocationId, lower USNs
)

// RunDatabaseAction stops a domain controller, lets its database have a fate, and starts it again.
func (h *Harness) RunDatabaseAction(ctx context.Context, service, fate string) error {
	if err := h.Stop(ctx, service); err != nil {
		return err
	}
	if err := h.WriteFile(ctx, service, "/var/lib/samba/fate", fate); err != nil {
		return err
	}
	return h.Start(ctx, service)
}

// Modify applies LDIF to a domain controller's database from inside, for one that cannot
// be reached.
func (h *Harness) Modify(ctx context.Context, service, ldif string) error {
	out, err := h.ExecInput(ctx, service, ldif, "ldbmodify", "-H", "/var/lib/samba/private/sam.ldb")
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("%s: ldbmodify: exit status %d: %s", service, out.Status, lastLines(out.Stdout+out.Stderr, 5))
	}
	return err
}
