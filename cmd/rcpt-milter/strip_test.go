package main

import (
	"strings"
	"testing"
)

// TestLookupWithoutTag: lookup explains that the tag was removed, and export has no tagged address.
func TestLookupWithoutTag(t *testing.T) {
	r := newRig(t)
	r.addUser("ann", "smtp:ann@corp.example")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	const tagged = "prvs=0123abcdef=Ann@corp.example"
	r.lookup(exitFailure, tagged)
	r.edit("poll: 100ms", "poll: 100ms\nstrip_prefixes: [prvs=]")
	r.want(exitOK, "reload")
	answer := r.lookup(exitOK, tagged)
	if answer.Verdict != "known" || answer.Matched != "ann@corp.example" || answer.Stripped != "prvs=" ||
		answer.Canonical != "prvs=0123abcdef=ann@corp.example" || len(answer.Owners) != 1 {
		t.Errorf("%+v", answer)
	}
	if out := r.want(exitOK, "lookup", tagged); !strings.Contains(out, "strip_prefixes") {
		t.Error(out)
	}
	if out := r.want(exitOK, "export", "--format", "text"); strings.Contains(out, "prvs") {
		t.Error(out)
	}
}
