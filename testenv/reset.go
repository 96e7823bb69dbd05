package testenv

import (
	"context"
	"fmt"
	"time"
)

// settleDeadline limits Settle.
const settleDeadline = 2 * time.Minute

// Settle resets a harness after any test: all parts run, dc1 uses its good certificate, the
// daemon has its default configuration and password, and its index is fresh. Objects in AD stay
// as they are.
func (h *Harness) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleDeadline)
	defer cancel()
	if err := h.EnsureRunning(ctx, DC, Sink, MX); err != nil {
		return err
	}
	if err := h.UseCertificate(ctx, "good"); err != nil {
		return err
	}
	if err := h.resetDaemon(ctx); err != nil {
		return err
	}
	if _, err := h.AwaitFresh(ctx); err != nil {
		return fmt.Errorf("daemon does not become fresh: %w", err)
	}
	return nil
}

// EnsureRunning starts or unpauses services.
func (h *Harness) EnsureRunning(ctx context.Context, services ...string) error {
	for _, service := range services {
		state, _, err := h.State(ctx, service)
		if err != nil {
			return err
		}
		switch state {
		case "running":
		case "paused":
			err = h.Unpause(ctx, service)
		default:
			err = h.StartOnly(ctx, service)
		}
		if err != nil {
			return err
		}
	}
	return h.AwaitHealthy(ctx, services...)
}

// resetDaemon restarts the daemon if its files are not the default ones.
func (h *Harness) resetDaemon(ctx context.Context) error {
	defaults, err := h.DefaultConfig()
	if err != nil {
		return err
	}
	state, _, err := h.State(ctx, Milter)
	if err != nil {
		return err
	}
	if state == "paused" {
		if err := h.Unpause(ctx, Milter); err != nil {
			return err
		}
		state = "running"
	}
	if state == "running" {
		config, err1 := h.ReadFile(ctx, Milter, ConfigFile)
		password, err2 := h.ReadFile(ctx, Milter, PasswordFile)
		if err1 == nil && err2 == nil && config == defaults && password == MailPassword+"\n" {
			return h.AwaitHealthy(ctx, Milter)
		}
		if err := h.Stop(ctx, Milter); err != nil {
			return err
		}
	}
	if err := h.Configure(ctx); err != nil {
		return err
	}
	if err := h.WriteFile(ctx, Milter, PasswordFile, MailPassword+"\n"); err != nil {
		return err
	}
	return h.Start(ctx, Milter)
}
