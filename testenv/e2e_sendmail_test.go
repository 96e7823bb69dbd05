package testenv_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"rcpt-milter/testenv"
)

// socket is the path of the daemon's socket in the containers of mx and sendmail.
const socket = "/var/spool/postfix/rcpt-milter/milter.sock"

// sendmail starts Sendmail beside mx, for the rest of the test.
func (e *edge) sendmail() {
	e.t.Helper()
	e.join(testenv.Sendmail)
}

// inSendmailsWords maps replies of Postfix in the dialogues to those of Sendmail.
var inSendmailsWords = []struct {
	postfix  *regexp.Regexp
	sendmail string
}{
	{regexp.MustCompile(`(?m)^S: 250 (2\.[01]\.[05]) Ok$`), "S: 250 $1 <...ok"},
	{regexp.MustCompile(`(?m)^S: 250 2\.0\.0 Ok: queued as\.\.\.$`), "S: 250 2.0.0 ... Message accepted for delivery"},
	// The reply of a milter is preceded by the address.
	{regexp.MustCompile(`(?m)^S: ([45]\d\d \d\.\d\.\d) <([^>]*)>: `), "S: $1 <...>... <$2>: "},
	{regexp.MustCompile(`(?m)^S: 554 5\.5\.1\.\.\.$`), "S: 503 5.0.0 Need RCPT (recipient)"},
}

// TestSendmail runs the core dialogues with Sendmail as the MTA.
func TestSendmail(t *testing.T) {
	world := require(t)
	world.sendmail()
	for _, name := range []string{
		"known", "unknown", "mixed", "sendmail/case", "null-sender", "pipelining", "postmaster", "transactions",
		"recipients-100", "report", "pass", "sub-domains", "foreign", "story/judged",
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", "dialogues", name+".txt"))
			e := world.in(t, dialogueDeadline)
			e.must(err)
			translated := string(text)
			for _, phrase := range inSendmailsWords {
				translated = phrase.postfix.ReplaceAllString(translated, phrase.sendmail)
			}
			e.hold(testenv.Sendmail, testenv.PortSMTP, name, translated, nil)
		})
	}
	world.must(world.Stop(world.ctx, testenv.Milter))
	text, err := os.ReadFile("testdata/dialogues/sendmail/daemon-away.txt")
	world.must(err)
	world.hold(testenv.Sendmail, testenv.PortSMTP, "sendmail/daemon-away", string(text), nil)
}

// TestMiltertest runs scripts of miltertest, another implementation of the MTA's side of the
// protocol, against the daemon. A script fails on a wrong answer.
func TestMiltertest(t *testing.T) {
	scripts, err := filepath.Glob("testdata/miltertest/*.lua")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	e := require(t)
	e.sendmail()
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		e.must(err)
		out, err := e.ExecInput(e.ctx, testenv.Sendmail, string(text), "miltertest", "-D", "socket=unix:"+socket)
		e.must(err)
		if out.Status != 0 {
			t.Errorf("%s: exit status %d: %s", script, out.Status, out.Stderr+out.Stdout)
		}
	}
}
