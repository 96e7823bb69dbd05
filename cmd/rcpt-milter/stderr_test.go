package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcpt-milter/control"
)

// answerLimit is how long a reply may take at most while the log is not written.
const answerLimit = 5 * time.Second

// spawnWithStderr starts a daemon whose standard error is a pipe that the test holds, and waits
// until it answers.
func (r *rig) spawnWithStderr() (p *process, reader *os.File) {
	r.t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	defer writer.Close()
	r.t.Cleanup(func() { reader.Close() })
	p = r.spawnTo(writer)
	for until := time.Now().Add(time.Minute); ; {
		if status, _, _ := r.command("status"); status != exitNotReachable {
			return p, reader
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			r.t.Fatalf("the daemon ended: %v", err)
		default:
		}
		if time.Now().After(until) {
			r.t.Fatal("the daemon does not answer")
		}
	}
}

// wantAnswers asks about a known and some unknown recipients.
func (p *process) wantAnswers(unknown int) {
	p.r.t.Helper()
	session, err := dialMilter(p.r.milterSocket())
	if err != nil {
		p.r.t.Fatal(err)
	}
	defer session.Close()
	for i := range unknown + 1 {
		recipient, want := "jane@corp.example", "continue"
		if i > 0 {
			recipient, want = fmt.Sprintf("nobody%d@corp.example", i), "550 5.1.1"
		}
		began := time.Now()
		got, err := session.ask(recipient)
		if took := time.Since(began); err != nil || !strings.HasPrefix(got, want) || took > answerLimit {
			p.r.t.Fatalf("RCPT %s: %q, %v after %s, want %s", recipient, got, err, took, want)
		}
	}
}

// wantEnd stops the daemon and waits for a good end.
func (p *process) wantEnd() {
	p.r.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		p.ended <- err
		if err != nil {
			p.r.t.Errorf("the daemon ended: %v", err)
		}
	case <-time.After(time.Minute):
		p.r.t.Error("the daemon does not end")
	}
}

// wantLogTrouble waits for the alarm and the count of dropped lines.
func (r *rig) wantLogTrouble(words string) {
	r.t.Helper()
	var s control.Status
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		s = r.status()
		if len(s.Alarms) == 1 && strings.Contains(s.Alarms[0], words) && s.LogDropped > 0 {
			r.want(exitFailure, "status")
			return
		}
	}
	r.t.Errorf("alarms %q, %d lines dropped, want %q", s.Alarms, s.LogDropped, words)
}

// TestStderrClosed: when the reader of standard error goes, as journald does when it is stopped or
// the log pipe of a container when it is restarted, the daemon lives on and says that it does not
// log.
func TestStderrClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, reader := r.spawnWithStderr()
	r.want(exitOK, "sync", "--wait")
	reader.Close()
	p.wantAnswers(3)
	r.wantLogTrouble("cannot log to standard error: write")
	p.wantAnswers(3)
	p.wantEnd()
}

// TestStderrUnread: when no process reads standard error, and its pipe is full, recipients are
// answered at once, and the daemon ends when it is told to.
func TestStderrUnread(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, reader := r.spawnWithStderr()
	r.want(exitOK, "sync", "--wait")
	p.wantAnswers(6000) // more than wait in the pipe and in the daemon
	r.wantLogTrouble("cannot log to standard error")
	p.wantAnswers(3)
	p.wantEnd()
	reader.Close()
}

// TestStderrOfAFailedStart: an error at the start is not waited for when its text cannot be
// written.
func TestStderrOfAFailedStart(t *testing.T) {
	r := newRig(t)
	r.edit("corp.example: enforce", "corp.example: "+strings.Repeat("x", 1000))
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	fill(t, writer)
	p := r.spawnTo(writer)
	select {
	case err := <-p.ended:
		p.ended <- err
		if p.cmd.ProcessState.ExitCode() != exitConfig {
			t.Errorf("ended with %v, want %d", err, exitConfig)
		}
	case <-time.After(time.Minute):
		t.Error("the process does not end")
	}
}

// fill writes to a pipe until it is full.
func fill(t *testing.T, writer *os.File) {
	t.Helper()
	writer.SetWriteDeadline(time.Now().Add(time.Second / 10))
	for {
		if _, err := writer.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	writer.SetWriteDeadline(time.Time{})
}

// TestStoreGone: the end is bounded when the store cannot be written any more, because its
// directory is gone. The daemon names what it gave up.
func TestStoreGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.spawn().ready()
	r.want(exitOK, "sync", "--wait")
	if err := os.RemoveAll(r.dir + "/store"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		p.ended <- err
		t.Logf("ended after %s: %v", time.Since(began).Round(time.Second/10), err)
		if status := p.cmd.ProcessState.ExitCode(); status != exitFailure ||
			!strings.Contains(p.log.String(), "rcpt-milter: gave up after") ||
			!strings.Contains(p.log.String(), "waiting_for=\"closing the store\"") {
			t.Errorf("ended with status %d\n%s", status, p.log)
		}
	case <-time.After(35 * time.Second): // TimeoutStopSec is 40 s
		t.Errorf("the daemon does not end\n%s", p.log)
	}
}
