package testenv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/testenv"
)

// TestPostfixForms sends every form of a recipient through mx. {rcpt_addr} must equal the
// recorded value, no form may bypass the index, and no form may lose valid mail.
func TestPostfixForms(t *testing.T) {
	e := require(t)
	forms, err := testenv.ReadForms(filepath.Join("testdata", "forms.txt"))
	e.must(err)

	e.serveForms("[]")
	mark, err := e.MarkLog(e.ctx, testenv.Milter)
	e.must(err)
	replies := e.askForms(forms)
	e.recorded(mark, forms)
	for i, f := range forms {
		switch reply := replies[i]; {
		case f.Macro == "":
			if reply.Code()/100 != 5 {
				t.Errorf("line %d: RCPT TO:%s = %q, which Postfix refused when it was recorded", f.Line, f.Argument,
					reply)
			}
		case judged(f.Canonical) && reply.Code() != unowned(f.Canonical):
			t.Errorf("line %d: RCPT TO:%s = %q, and the address has no owner", f.Line, f.Argument, reply)
		}
	}

	var accept []string
	for _, f := range forms {
		if f.Macro != "" && judged(f.Canonical) {
			accept = append(accept, strconv.Quote(f.Canonical))
		}
	}
	slices.Sort(accept)
	accept = slices.Compact(accept)
	e.serveForms("[" + strings.Join(accept, ", ") + "]")
	for i, reply := range e.askForms(forms) {
		if f := forms[i]; f.Macro != "" && judged(f.Canonical) && reply.Code() != 250 {
			t.Errorf("line %d: RCPT TO:%s = %q, although %s is accepted", f.Line, f.Argument, reply, f.Canonical)
		}
	}
	t.Logf("%d forms, of %d addresses in our domains", len(forms), len(accept))
}

// judged reports whether a canonical address is in a domain that serveForms enforces, and
// not one that is always accepted.
func judged(canonical string) bool {
	return !strings.HasPrefix(canonical, "postmaster@") &&
		(strings.HasSuffix(canonical, "@corp.example") || strings.HasSuffix(canonical, ".corp.example"))
}

// unowned returns the reply to a judged address without an owner. In a sub-domain without a
// known address it is a deferral.
func unowned(canonical string) int {
	if strings.HasSuffix(canonical, "@corp.example") {
		return 550
	}
	return 451
}

// serveForms starts the daemon and logs every recipient.
func (e *edge) serveForms(accept string) {
	e.t.Helper()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Configure(e.ctx, testenv.Overlay("domains: {corp.example: enforce, .corp.example: enforce}\n"+
		"log: {format: json, level: debug}\naccept: "+accept+"\n")))
	e.must(e.Start(e.ctx, testenv.Milter))
	_, err := e.AwaitFresh(e.ctx)
	e.must(err)
}

// askForms sends every form in one transaction.
func (e *edge) askForms(forms []testenv.Form) []testenv.Reply {
	e.t.Helper()
	session, err := e.Session(e.ctx, "")
	e.must(err)
	defer session.Close()
	reply, err := session.Do("MAIL FROM:<sender@elsewhere.example> SMTPUTF8")
	if err != nil || reply.Code() != 250 {
		e.t.Fatalf("MAIL = %q, %v", reply, err)
	}
	replies := make([]testenv.Reply, len(forms))
	for i, f := range forms {
		if replies[i], err = session.Do("RCPT TO:" + f.Argument); err != nil {
			e.t.Fatalf("line %d: RCPT TO:%s: %v", f.Line, f.Argument, err)
		}
	}
	_, err = session.Do("QUIT")
	e.must(err)
	return replies
}

// recorded compares the recipients in the log of the daemon with the recorded macros.
func (e *edge) recorded(mark testenv.Mark, forms []testenv.Form) {
	e.t.Helper()
	var want []string
	for _, f := range forms {
		if f.Macro != "" {
			want = append(want, inLog(f.Macro))
		}
	}
	var got []string
	err := testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		log, err := e.LogSince(ctx, mark)
		if got = recipients(log); err == nil && len(got) < len(want) {
			err = fmt.Errorf("the daemon has logged %d recipients, want %d", len(got), len(want))
		}
		return err
	})
	if diff := cmp.Diff(want, got); diff != "" {
		e.t.Errorf("{rcpt_addr} of the forms (-recorded +got; %v):\n%s", err, diff)
	}
}

// recipients returns the recipients of a JSON log of the daemon.
func recipients(log string) []string {
	var to []string
	for text := range strings.Lines(log) {
		var line struct{ Msg, To string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "rcpt" {
			to = append(to, line.To)
		}
	}
	return to
}

// inLog returns text as the log of the daemon shows it.
func inLog(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprint(&b, strings.Trim(strconv.Quote(string(r)), `"`))
		}
	}
	return b.String()
}
