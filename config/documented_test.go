package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// keysOf matches the report of an unknown key that is like no other.
var keysOf = regexp.MustCompile(`unknown key "zzzzzzzzzz"( in [^ ;]+)?; the keys are ([a-z0-9_, ]+)`)

// schemaKeys returns the paths of all keys, as the parser itself lists them.
func schemaKeys(t *testing.T) []string {
	t.Helper()
	var all []string
	var visit func(path []string)
	visit = func(path []string) {
		// {a: {b: {zzzzzzzzzz: 1}}}, with directories as a list
		text := "{zzzzzzzzzz: 1}"
		for _, key := range slices.Backward(path) {
			if key == "directories" {
				text = "[" + text + "]"
			}
			text = "{" + key + ": " + text + "}"
		}
		_, err := Parse("config.yaml", []byte(text))
		if err == nil {
			t.Fatalf("%s is accepted", text)
		}
		m := keysOf.FindStringSubmatch(err.Error())
		if m == nil { // not a mapping with keys of its own
			return
		}
		for key := range strings.SplitSeq(m[2], ", ") {
			below := append(slices.Clone(path), key)
			all = append(all, strings.Join(below, "."))
			visit(below)
		}
	}
	visit(nil)
	return all
}

// TestEveryKeyIsDocumented: docs/configuration.md, the source of rcpt-milter.yaml(5), shows every key
// of the schema in its sample, and the configuration of the package names every section.
func TestEveryKeyIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	sample := settingsBlock.FindStringSubmatch(string(text))
	packaged, err := os.ReadFile("../deploy/config.yaml")
	if err != nil || sample == nil {
		t.Fatalf("no sample, or %v", err)
	}
	keys := schemaKeys(t)
	for _, path := range keys {
		name := path[strings.LastIndex(path, ".")+1:]
		shown := regexp.MustCompile(`(?m)(^|[ {#-])` + name + `:( |$)`)
		if !shown.MatchString(sample[1]) {
			t.Errorf("the sample of docs/configuration.md has no %s", path)
		}
		if !strings.Contains(path, ".") && !shown.MatchString(string(packaged)) {
			t.Errorf("deploy/config.yaml has no %s", path)
		}
	}
	if len(keys) < 70 || !slices.Contains(keys, "directories.removal_guard.share") ||
		!slices.Contains(keys, "harvest.networks.ipv6_site") {
		t.Errorf("the schema has %d keys: %q", len(keys), keys)
	}
}
