package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// TestCanaryForms: a canary stands for the same local part at each target of its domain, by the configuration and by a
// file, and at no more of them than a recipient is looked up at.
func TestCanaryForms(t *testing.T) {
	lines := "other@other.test OK\n@a.test @b.test, @c.test\n@d.test @a.test\n"
	for i := range 3 * policy.MaxTargets {
		lines += fmt.Sprintf("@n%d.test @n%d.test\n", i, i+1)
	}
	path := filepath.Join(t.TempDir(), "virtual")
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	files := tables.NewFiles(tables.Config{})
	prepared, err := files.Prepare([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	files.Use(prepared)
	c := &config.Config{DomainAliases: map[string]string{"c.test": "d.test", "e.test": "c.test"}}
	canary := func(text string) address.Address {
		a, err := address.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for domain, want := range map[string][]string{
		"a.test": {"a.test", "b.test", "c.test", "d.test"}, // d.test leads back
		"b.test": {"b.test"}, "e.test": {"e.test", "c.test", "d.test", "a.test", "b.test"}, "n47.test": {"n47.test",
			"n48.test"},
	} {
		var got []string
		for _, form := range canaryForms(c, files, canary("ceo@"+domain)) {
			got = append(got, strings.TrimPrefix(form.String(), "ceo@"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", domain, got, want)
		}
	}
	if n := len(canaryForms(c, files, canary("ceo@n0.test"))); n != policy.MaxTargets+1 {
		t.Errorf("a long chain has %d forms, want %d", n, policy.MaxTargets+1)
	}
}
