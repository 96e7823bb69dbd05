package testenv_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/testenv"
)

// The end-to-end tests: the daemon of this checkout between the real Postfix and Samba AD.
// testdata/dialogues has the expected replies.

var shared testenv.Shared

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// Time limits of one test, and of one dialogue with its message.
const (
	testDeadline     = 3 * time.Minute
	dialogueDeadline = 30 * time.Second
)

// edge is the environment of an end-to-end test.
type edge struct {
	*testenv.Harness
	t   *testing.T
	ctx context.Context
}

func require(t *testing.T) *edge {
	t.Helper()
	if testing.Short() {
		t.Skip("end-to-end tests are skipped with -short")
	}
	h := shared.Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	t.Cleanup(cancel)
	return &edge{Harness: h, t: t, ctx: ctx}
}

// in returns the same edge with a time limit for a part of the test.
func (e *edge) in(t *testing.T, deadline time.Duration) *edge {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return &edge{Harness: e.Harness, t: t, ctx: ctx}
}

// must ends the test on an error.
func (e *edge) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// administrator connects to dc1 for the rest of the test.
func (e *edge) administrator() *testenv.Domain {
	e.t.Helper()
	domain, err := e.Administrator(e.ctx)
	e.must(err)
	e.t.Cleanup(func() { domain.Close() })
	return domain
}

// subjects numbers the messages of this process.
var subjects atomic.Int64

// dialogue runs the dialogue in a file below testdata/dialogues with mx, and checks the
// recipients of its message.
func (e *edge) dialogue(name string, variables map[string]string) {
	e.t.Helper()
	e.dialogueAt(testenv.PortSMTP, name, variables)
}

// dialogueAt is dialogue with another port of mx.
func (e *edge) dialogueAt(port int, name string, variables map[string]string) {
	e.t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "dialogues", name+".txt"))
	e.must(err)
	e.hold(testenv.MX, port, name, string(text), variables)
}

// hold runs a dialogue with an MTA, and checks the recipients of its message.
func (e *edge) hold(mta string, port int, name, text string, variables map[string]string) {
	e.t.Helper()
	subject := fmt.Sprintf("e2e %d %d", time.Now().UnixNano(), subjects.Add(1))
	all := map[string]string{"subject": subject}
	maps.Copy(all, variables)
	dialogue, err := testenv.ParseDialogue(name+".txt", text, all)
	e.must(err)
	address, err := e.Address(e.ctx, mta, port)
	e.must(err)
	mark, err := e.MarkLog(e.ctx, mta)
	e.must(err)
	if _, err := dialogue.Run(e.ctx, address); err != nil {
		log, _ := e.LogSince(e.ctx, mark)
		e.t.Fatalf("%v\n%s logged:\n%s", err, mta, log)
	}
	if len(dialogue.Delivered) == 0 {
		return
	}
	arrived, err := e.Arrived(e.ctx, subject, dialogue.Delivered...)
	e.must(err)
	slices.Sort(dialogue.Delivered)
	if diff := cmp.Diff(dialogue.Delivered, arrived); diff != "" {
		e.t.Errorf("%s: recipients the message arrived for (-want +got):\n%s", name, diff)
	}
}

// equalsAD compares every address of the index with Active Directory: both have the same
// number, and the edge accepts each address of AD and rejects each removed one.
func (e *edge) equalsAD(domain *testenv.Domain, gone ...string) {
	e.t.Helper()
	status, err := e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	want, _, err := domain.Recipients()
	e.must(err)
	if status.Addresses != len(want) {
		e.t.Errorf("the index has %d addresses, AD has %d", status.Addresses, len(want))
	}
	replies, err := e.AskAll(e.ctx, append(slices.Clone(want), gone...))
	e.must(err)
	var wrong []string
	for _, address := range want {
		if replies[address].Code() != 250 {
			wrong = append(wrong, fmt.Sprintf("%s is in AD, and the edge says %q", address, replies[address]))
		}
	}
	for _, address := range gone {
		if replies[address].Code() != 550 {
			wrong = append(wrong, fmt.Sprintf("%s is not in AD, and the edge says %q", address, replies[address]))
		}
	}
	if len(wrong) > 0 {
		e.t.Errorf("%d addresses of %d differ, %d removals are held; the first ones:\n%s",
			len(wrong), len(replies), status.Directories[0].HeldRemovals,
			strings.Join(wrong[:min(5, len(wrong))], "\n"))
	}
}

// TestDialogues runs every dialogue of the folder with the stock configuration and the seeded
// directory.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/dialogues/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	e := require(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			e.in(t, dialogueDeadline).dialogue(name, nil)
		})
	}
}

// TestPorts: the submission port uses no milter, and mx's smtpd finds the milter from inside
// its chroot, on a port whose path to it leads nowhere from outside.
func TestPorts(t *testing.T) {
	e := require(t)
	e.dialogueAt(testenv.PortSubmission, "ports/submission", nil)
	e.dialogueAt(testenv.PortChroot, "story/judged", nil)
	for _, service := range []string{"smtp/inet", "submission/inet", "2525/inet"} {
		out, err := e.Exec(e.ctx, testenv.MX, "postconf", "-F", service+"/chroot")
		e.must(err)
		if got, want := strings.TrimSpace(out.Stdout), service+"/chroot = y"; got != want {
			t.Errorf("master.cf: %q, want %q", got, want)
		}
	}
}

// TestDialoguesParse reads every dialogue without a harness.
func TestDialoguesParse(t *testing.T) {
	for _, pattern := range []string{"testdata/dialogues/*.txt", "testdata/dialogues/*/*.txt",
		"testdata/dialogues/settings/*/*.txt"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no dialogues %s: %v", pattern, err)
		}
		for _, file := range files {
			if _, err := testenv.ReadDialogue(file, map[string]string{"subject": "s", "user": "u"}); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestIndexEqualsAD compares every seeded address, and the reply's text with the log.
func TestIndexEqualsAD(t *testing.T) {
	e := require(t)
	e.equalsAD(e.administrator(), "nobody@corp.example")
	mark, err := e.MarkLog(e.ctx, testenv.MX)
	e.must(err)
	reply, err := e.Ask(e.ctx, "nobody@corp.example")
	e.must(err)
	if got, want := reply.String(), "550 5.1.1 <nobody@corp.example>: Recipient address rejected: User "+
		"unknown"; got != want {
		t.Errorf("reply = %q, want %q", got, want)
	}
	line, err := e.AwaitLog(e.ctx, mark, "milter-reject: RCPT .*<nobody@corp.example>")
	e.must(err)
	t.Log(line)
}

// TestGrace: with the default removal_grace a removed address is deferred, not rejected.
func TestGrace(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	e.socketmap(testenv.Replace("removal_grace: 0s", "removal_grace: 1h"))
	dn, err := domain.AddUser(testenv.Person{Name: "grace", Proxies: []string{"SMTP:grace@corp.example"}})
	e.must(err)
	t.Cleanup(func() { domain.Delete(dn) })
	_, err = e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	e.replies("grace@corp.example", 250, "")
	e.must(domain.Delete(dn))
	_, err = e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	e.dialogue("story/in-grace", map[string]string{"user": "grace"})
	e.mapDialogue("story/in-grace", map[string]string{"user": "grace"})
	// The grace survives a restart.
	e.must(e.Restart(e.ctx, testenv.Milter))
	e.replies("grace@corp.example", 450, "4.1.1")
	// A new owner ends it.
	_, err = domain.AddUser(testenv.Person{Name: "grace", Proxies: []string{"SMTP:grace@corp.example"}})
	e.must(err)
	_, err = e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	e.replies("grace@corp.example", 250, "")
}

// replies checks the present reply of the edge to one recipient.
func (e *edge) replies(recipient string, code int, enhanced string) {
	e.t.Helper()
	reply, err := e.Ask(e.ctx, recipient)
	e.must(err)
	if reply.Code() != code || !strings.Contains(reply.String(), enhanced) {
		e.t.Errorf("edge replied %q to %s, want %d %s", reply, recipient, code, enhanced)
	}
}
