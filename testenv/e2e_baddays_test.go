package testenv_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// poll is the interval between requests for the status while a test waits.
const poll = 200 * time.Millisecond

var errNoReason = errors.New("status does not yet say what is wrong")

// startEmpty starts a stopped daemon with an empty store.
func (e *edge) startEmpty(edits ...func(string) string) {
	e.t.Helper()
	e.must(e.Configure(e.ctx, edits...))
	e.must(e.EmptyStore(e.ctx))
	e.must(e.Start(e.ctx, testenv.Milter))
}

// notReady checks that the edge defers recipients of our domains, and that status gives the
// reason.
func (e *edge) notReady(reason ...string) {
	e.t.Helper()
	var status testenv.Status
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		var err error
		if status, err = e.Status(ctx); err != nil {
			return err
		}
		if len(status.Directories) != 1 || status.Directories[0].LastError == "" {
			return errNoReason
		}
		return nil
	}))
	if status.State != "not_ready" {
		e.t.Errorf("state = %q, want not_ready", status.State)
	}
	last := status.Directories[0].LastError
	e.t.Logf("last_error: %s", last)
	for _, part := range reason {
		if !strings.Contains(strings.ToLower(last), part) {
			e.t.Errorf("last_error = %q, want %q in it", last, part)
		}
	}
	out, err := e.RunMilter(e.ctx, "status")
	e.must(err)
	if out.Status != 2 {
		e.t.Errorf("status: exit status %d, want 2", out.Status)
	}
	e.dialogue("story/not-ready", nil)
}

// recovers checks that the daemon builds its index without help.
func (e *edge) recovers() {
	e.t.Helper()
	_, err := e.AwaitFresh(e.ctx)
	e.must(err)
	e.dialogue("story/judged", nil)
	e.equalsAD(e.administrator(), "nobody@corp.example")
}

// TestFirstStartWithoutDC: the domain controller is down when the daemon first starts.
func TestFirstStartWithoutDC(t *testing.T) {
	e := require(t)
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Stop(e.ctx, testenv.DC))
	e.startEmpty()
	e.notReady("dc1.corp.example")
	e.must(e.Start(e.ctx, testenv.DC))
	e.recovers()
}

// TestFirstStartWithSilentDC: the domain controller accepts connections and never answers.
func TestFirstStartWithSilentDC(t *testing.T) {
	e := require(t)
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Pause(e.ctx, testenv.DC))
	e.startEmpty()
	e.notReady()
	e.must(e.Unpause(e.ctx, testenv.DC))
	e.recovers()
}

// TestBadCertificates: the daemon rejects an untrusted certificate. When the certificate is
// replaced, the daemon continues without a restart.
func TestBadCertificates(t *testing.T) {
	for _, bad := range []struct{ name, reason string }{{"expired", "expired"}, {"unknown-ca", "authority"}} {
		t.Run(bad.name, func(t *testing.T) {
			e := require(t)
			e.must(e.Stop(e.ctx, testenv.Milter))
			e.must(e.UseCertificate(e.ctx, bad.name))
			e.startEmpty()
			e.notReady(bad.reason)
			e.must(e.UseCertificate(e.ctx, "good"))
			e.recovers()
		})
	}
}

// TestCertificateGoesBad: with an index on disk, a bad certificate does not affect mail. The
// status shows the error.
func TestCertificateGoesBad(t *testing.T) {
	e := require(t)
	e.must(e.UseCertificate(e.ctx, "expired"))
	e.must(e.Restart(e.ctx, testenv.Milter))
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		status, err := e.Status(ctx)
		if err == nil && (len(status.Directories) != 1 || !strings.Contains(status.Directories[0].LastError,
			"expired")) {
			err = errNoReason
		}
		return err
	}))
	out, err := e.RunMilter(e.ctx, "status")
	e.must(err)
	if out.Status != 1 {
		t.Errorf("status with a failing directory: exit status %d, want 1", out.Status)
	}
	e.dialogue("story/judged", nil)
	e.must(e.UseCertificate(e.ctx, "good"))
	e.recovers()
}

// TestWrongPassword: the daemon reports a wrong password and waits between attempts, so the
// account is not locked. It continues when the password file is right.
func TestWrongPassword(t *testing.T) {
	e := require(t)
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.WriteFile(e.ctx, testenv.Milter, testenv.PasswordFile, "not the password\n"))
	e.startEmpty()
	e.notReady("password")
	e.must(e.WriteFile(e.ctx, testenv.Milter, testenv.PasswordFile, testenv.MailPassword+"\n"))
	e.must(e.Sync(e.ctx))
	e.recovers()
}

// TestStartTLS: ldap:// with StartTLS works like ldaps://.
func TestStartTLS(t *testing.T) {
	e := require(t)
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.startEmpty(testenv.Replace("ldaps://dc1.corp.example", "ldap://dc1.corp.example"))
	e.recovers()
}

// TestWrongBase: a base that does not exist is an error. It does not remove all addresses,
// even beside a base that exists.
func TestWrongBase(t *testing.T) {
	for name, bases := range map[string]string{
		"alone":  `["OU=Nowhere,DC=corp,DC=example"]`,
		"beside": `["OU=Berlin,OU=Staff,DC=corp,DC=example", "OU=Nowhere,DC=corp,DC=example"]`,
	} {
		t.Run(name, func(t *testing.T) {
			e := require(t)
			e.must(e.Stop(e.ctx, testenv.Milter))
			e.startEmpty(testenv.Replace("    poll: 1s\n", "    poll: 1s\n    bases: "+bases+"\n"))
			e.notReady("base")
		})
	}
}

// TestBase: with a base, only objects below it are recipients.
func TestBase(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.startEmpty(testenv.Replace("    poll: 1s\n", "    poll: 1s\n    bases: "+
		"[\"OU=Berlin,OU=Staff,DC=corp,DC=example\"]\n"))
	_, err := e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	e.replies("ines@corp.example", 250, "")
	e.replies("user004@corp.example", 250, "")
	e.replies("user001@corp.example", 550, "5.1.1")
	e.replies("sales@corp.example", 550, "5.1.1")
	// A move into the base adds an object; a move out of it removes the object.
	dn, err := domain.AddUser(testenv.Person{Name: "commuter", Proxies: []string{"SMTP:commuter@corp.example"}})
	e.must(err)
	t.Cleanup(func() { domain.Delete(dn) })
	for _, step := range []struct {
		ou   string
		code int
	}{{testenv.StaffOU, 550}, {testenv.BerlinOU, 250}, {testenv.LeaversOU, 550}} {
		dn, err = domain.Move(dn, "commuter", step.ou)
		e.must(err)
		_, err = e.AwaitCaughtUp(e.ctx, domain)
		e.must(err)
		e.replies("commuter@corp.example", step.code, "")
	}
}

// TestBlindAccount: if the account may not list deleted objects, the daemon still removes
// deleted addresses, and the status shows the missing right.
func TestBlindAccount(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.WriteFile(e.ctx, testenv.Milter, testenv.PasswordFile, testenv.PlainPassword+"\n"))
	const full = 10 * time.Second
	e.startEmpty(testenv.Replace(testenv.MailAccount, testenv.PlainAccount),
		testenv.Replace("    poll: 1s\n", "    poll: 1s\n    full: 10s\n"))
	status, err := e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	if status.Directories[0].DeletedObjectsAreListed {
		t.Error("deleted_objects_visible = true for an account without the right")
	}
	dn, err := domain.AddUser(testenv.Person{Name: "unseen", Proxies: []string{"SMTP:unseen@corp.example"}})
	e.must(err)
	_, err = e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	e.replies("unseen@corp.example", 250, "")
	e.must(domain.Delete(dn))
	_, took, err := e.AwaitReply(e.ctx, "unseen@corp.example", 550)
	e.must(err)
	status, err = e.Status(e.ctx)
	e.must(err)
	t.Logf("a deletion that cannot be seen took effect after %.1f s, full is %v; full_pass_reason: %s",
		took.Seconds(), full, status.Directories[0].FullPassReason)
	if took > 2*full {
		t.Errorf("it took %v, full is %v", took, full)
	}
	if want := "deleted objects cannot be seen"; status.Directories[0].FullPassReason != want {
		t.Errorf("full_pass_reason = %q, want %q", status.Directories[0].FullPassReason, want)
	}
	out, err := e.RunMilter(e.ctx, "check", "--live")
	e.must(err)
	if out.Status != 1 || !strings.Contains(out.Stdout+out.Stderr, "Deleted Objects") {
		t.Errorf("check --live: exit status %d, want 1 with a word on Deleted Objects in:\n%s%s", out.Status,
			out.Stdout, out.Stderr)
	}
}

// TestRefusesToStart: an error that prevents the start is reported in one sentence, with the
// right exit status.
func TestRefusesToStart(t *testing.T) {
	world := require(t)
	for _, bad := range []struct {
		name   string
		edit   func(string) string
		status int
		words  []string
	}{
		{"unknown key", testenv.Replace("removal_grace:", "removal_graze:"), 78,
			[]string{"config.yaml:", "removal_graze"}},
		{"wrong type", testenv.Replace("poll: 1s", "poll: often"), 78, []string{"config.yaml:", "poll"}},
		{"no such mode", testenv.Replace("corp.example: enforce", "corp.example: strict"), 78,
			[]string{"config.yaml:", "strict"}},
		{"missing password file", testenv.Replace("password_file: /etc/rcpt-milter/password",
			"password_file: /etc/rcpt-milter/absent"), 78, []string{"/etc/rcpt-milter/absent"}},
		{"missing CA file", testenv.Replace("ca_file: /ca/ca.pem", "ca_file: /ca/absent.pem"), 78,
			[]string{"/ca/absent.pem"}},
	} {
		t.Run(strings.ReplaceAll(bad.name, " ", "-"), func(t *testing.T) {
			e := &edge{Harness: world.Harness, t: t, ctx: world.ctx}
			e.must(e.Configure(e.ctx, bad.edit)) // the running daemon does not read it again
			out, err := e.RunMilter(e.ctx, "check")
			e.must(err)
			e.explains("check", out, bad.status, bad.words)
			out, err = e.RunMilter(e.ctx, "serve")
			e.must(err)
			e.explains("serve", out, bad.status, bad.words)
		})
	}
}

// explains checks a command's exit status and the words of its error.
func (e *edge) explains(command string, out testenv.Output, status int, words []string) {
	e.t.Helper()
	complaint := strings.TrimSpace(out.Stderr + out.Stdout)
	if out.Status != status {
		e.t.Errorf("%s: exit status %d, want %d: %s", command, out.Status, status, complaint)
	}
	for _, word := range words {
		if !strings.Contains(complaint, word) {
			e.t.Errorf("%s says %q, want %q in it", command, complaint, word)
		}
	}
}

// TestSecondDaemon: a second daemon on the same store exits with an error. The first one
// continues undisturbed.
func TestSecondDaemon(t *testing.T) {
	e := require(t)
	out, err := e.RunMilter(e.ctx, "serve")
	e.must(err)
	if out.Status != 1 {
		t.Errorf("second serve: exit status %d, want 1", out.Status)
	}
	t.Logf("it says: %s", strings.TrimSpace(out.Stderr))
	e.dialogue("story/judged", nil)
}
