package testenv

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// joinDeadline limits the first start of dc2, which takes half a minute on an idle machine.
const joinDeadline = 10 * time.Minute

// StartSecond ensures that dc2 runs: a second domain controller, which joins the domain at its
// first start. It stays for later tests until RemoveSecond or until the harness is taken down.
func (h *Harness) StartSecond(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinDeadline)
	defer cancel()
	if _, err := mustRun(ctx, h.engine.composeCommand(ctx, "up", "--detach", "--no-build", "--no-deps",
		"--no-recreate", DC2)); err != nil {
		return err
	}
	return h.EnsureRunning(ctx, DC2)
}

// RemoveSecond removes dc2 with its database. The domain still lists it, like a controller whose
// machine has burned. RemoveSecond restarts dc1, which otherwise would use its Kerberos tickets
// for dc2 with another dc2.
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

// ForgetSecond removes dc2 as RemoveSecond does, and then from the domain too, as if it had never been.
func (h *Harness) ForgetSecond(ctx context.Context) error {
	if err := h.RemoveSecond(ctx); err != nil {
		return err
	}
	return h.sambaTool(ctx, DC, "domain", "demote", "--remove-other-dead-server="+DC2)
}

// backupDir is the directory in dc1 that holds the backup of the domain.
const backupDir = "/var/lib/samba/backup"

// Backup makes a backup of the domain at dc1. The first start of dc2 restores it; see
// RemoveSecond. Backup removes an earlier dc2 from the domain: a controller cannot be restored
// under a name in use.
func (h *Harness) Backup(ctx context.Context) error {
	if _, err := h.Exec(ctx, DC, "samba-tool", "domain", "demote", "--remove-other-dead-server="+DC2); err != nil {
		return err
	}
	if err := h.mustExec(ctx, DC, "mkdir", backupDir); err != nil {
		return err
	}
	return h.sambaTool(ctx, DC, "domain", "backup", "offline", "--targetdir="+backupDir)
}

// RemoveBackup removes the backup.
func (h *Harness) RemoveBackup(ctx context.Context) error {
	return h.mustExec(ctx, DC, "rm", "-rf", backupDir)
}

// HasSecond reports whether dc2 exists, running or not.
func (h *Harness) HasSecond(ctx context.Context) bool {
	_, err := h.engine.container(ctx, DC2)
	return err == nil
}

// replicateDeadline limits the time until a controller that has just started replicates.
const replicateDeadline = time.Minute

// Replicate replicates from one domain controller to another, and returns when it is done. It
// retries for a controller that has just started, or has lost the connection to its partner.
func (h *Harness) Replicate(ctx context.Context, from, to string) error {
	ctx, cancel := context.WithTimeout(ctx, replicateDeadline)
	defer cancel()
	return AwaitNil(ctx, time.Second, func(ctx context.Context) error {
		return h.drs(ctx, to, "replicate", to, from, BaseDN)
	})
}

// CutReplication stops the replication of a domain controller in both directions, or resumes it.
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

// mustExec runs a command in a container; a non-zero exit status is an error.
func (h *Harness) mustExec(ctx context.Context, service string, argv ...string) error {
	out, err := h.Exec(ctx, service, argv...)
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("%s: %s: exit status %d: %s", service, strings.Join(argv, " "), out.Status,
			lastLines(out.Stdout+out.Stderr, 5))
	}
	return err
}

// Disconnect takes a service off the network: packets to it are lost. This machine cannot reach
// it either, except with Exec.
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

// network returns the name of the network of the harness.
func (h *Harness) network() string { return h.engine.project + "_edge" }

// Actions on a domain controller's database: see images/dc1/entrypoint.sh.
const (
	CopyDatabase    = "keep"     // copy its files
	RestoreDatabase = "set-back" // restore the copy: the same invocationId, lower USNs
)

// RunDatabaseAction stops a domain controller, runs an action on its database, and starts it.
func (h *Harness) RunDatabaseAction(ctx context.Context, service, action string) error {
	if err := h.Stop(ctx, service); err != nil {
		return err
	}
	if err := h.WriteFile(ctx, service, "/var/lib/samba/fate", action); err != nil {
		return err
	}
	return h.Start(ctx, service)
}

// Modify applies LDIF to the database inside a domain controller's container, for a controller
// that cannot be reached.
func (h *Harness) Modify(ctx context.Context, service, ldif string) error {
	out, err := h.ExecInput(ctx, service, ldif, "ldbmodify", "-H", "/var/lib/samba/private/sam.ldb")
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("%s: ldbmodify: exit status %d: %s", service, out.Status, lastLines(out.Stdout+out.Stderr, 5))
	}
	return err
}
