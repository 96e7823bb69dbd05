package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

// piped runs a command with a text on standard input.
func (r *rig) piped(input string, args ...string) (status int, stdout, stderr string) {
	r.t.Helper()
	var out, trouble bytes.Buffer
	a := &app{stdin: strings.NewReader(input), stdout: &out, stderr: &trouble, now: time.Now}
	status = a.run(r.t.Context(), append(args, "--config", r.config))
	return status, out.String(), trouble.String()
}

// TestLookupSeveral: the answers come in the order of the addresses, and the exit status is
// the highest one.
func TestLookupSeveral(t *testing.T) {
	r := newRig(t)
	r.edit("removal_grace: 0s", "removal_grace: 1h")
	gone := r.addUser("gone", "smtp:gone@corp.example")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	r.delete(gone)
	r.want(exitOK, "sync", "--wait")
	for _, c := range []struct {
		name, args, input string
		status            int
		answers, trouble  string
	}{
		{"accepted", "jane@corp.example postmaster@corp.example", "", exitOK,
			"jane@corp.example accepted, postmaster@corp.example accepted", ""},
		{"one refused", "jane@corp.example nobody@corp.example jane.doe@corp.example", "", exitFailure,
			"jane@corp.example accepted, nobody@corp.example refused, jane.doe@corp.example accepted", ""},
		{"one temporary", "gone@corp.example nobody@corp.example", "", exitTemporary,
			"gone@corp.example temporary, nobody@corp.example refused", ""},
		{"bare postmaster", "PostMaster <postmaster>", "", exitOK, "PostMaster accepted, <postmaster> accepted", ""},
		{"a list", "-", "\ufeffjane@corp.example\r\n\n# c\n  nobody@corp.example \n", exitFailure,
			"jane@corp.example accepted, nobody@corp.example refused", ""},
		{"a list of one", "-", "jane@corp.example", exitOK, "jane@corp.example accepted", ""},
		{"an empty list", "-", "", exitOK, "", ""},
		{"a list in between", "jane@corp.example - nobody@corp.example", "jane.doe@corp.example\n", exitFailure,
			"jane@corp.example accepted, jane.doe@corp.example accepted, nobody@corp.example refused", ""},
		{"a line without a domain", "-", "jane\njane@corp.example\n", exitUsage, "jane@corp.example accepted",
			`line 1 of standard input: "jane" has no domain`},
		{"a line that is too long", "-", "jane@corp.example\n" + strings.Repeat("x", 2*maxLookupLine), exitUsage, "",
			"line 2 of standard input is too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"lookup", "--json"}, strings.Fields(c.args)...)
			status, stdout, stderr := r.piped(c.input, args...)
			if status != c.status || !strings.Contains(stderr, c.trouble) || (c.trouble == "") != (stderr == "") {
				t.Errorf("exit status %d, %q, want %d, %q", status, stderr, c.status, c.trouble)
			}
			if c.trouble != "" && c.answers == "" {
				return // it ends in the middle of the list
			}
			var answers []control.LookupAnswer
			if err := json.Unmarshal([]byte(stdout), &answers); err != nil {
				t.Fatalf("%v in\n%s", err, stdout)
			}
			got := []string{}
			for _, a := range answers {
				got = append(got, a.Address+" "+string(a.Outcome))
			}
			if strings.Join(got, ", ") != c.answers {
				t.Errorf("answers %q, want %q", got, c.answers)
			}
			_, forPeople, _ := r.piped(c.input, append([]string{"lookup"}, strings.Fields(c.args)...)...)
			for _, want := range got {
				if !strings.Contains("\n"+forPeople, "\n"+strings.Replace(want, " ", ": ", 1)+"\n") {
					t.Errorf("for people there is no %q:\n%s", want, forPeople)
				}
			}
		})
	}
	var one control.LookupAnswer
	if err := json.Unmarshal([]byte(r.want(exitOK, "lookup", "jane@corp.example", "--json")), &one); err != nil ||
		one.Verdict != "known" {
		t.Errorf("of one address: %+v, %v", one, err)
	}
	d.stop()
	// The store that the daemon left answers all of them, too.
	status, stdout, _ := r.piped("nobody@corp.example\n", "lookup", "--json", "jane@corp.example", "-")
	var left []control.LookupAnswer
	err := json.Unmarshal([]byte(stdout), &left)
	offline := func(a control.LookupAnswer) bool { return a.Offline }
	if err != nil || len(left) != 2 || !slices.ContainsFunc(left, offline) || status != exitFailure {
		t.Errorf("without a daemon: %d, %v, %s", status, err, stdout)
	}
}
