package config

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"
)

// commentedKey is a key that a file shows and does not set: text has a space after #.
var commentedKey = regexp.MustCompile(`(?m)^( *)#([a-z0-9_]+:)`)

// TestSample: the configuration that packages bring is valid, names every key there is,
// and shows with each key that is commented out its default.
func TestSample(t *testing.T) {
	shipped, err := os.ReadFile("../deploy/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, hub, edge := splitFleet(string(shipped))
	asShipped, err := Parse("config.yaml", shipped)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Parse("config.yaml", []byte(commentedKey.ReplaceAllString(text, "$1$2")))
	if err != nil {
		t.Fatalf("with every key in effect: %v", err)
	}
	if d := diff(asShipped, all); d != "" {
		t.Errorf("keys that are commented out do not show their default (-as shipped +all in effect):\n%s", d)
	}
	for role, text := range map[string]string{"hub": text + hub,
		"edge": "domains: {corp.example: report}\ndirectories:\n  - name: corp\n" + edge} {
		t.Run(role, func(t *testing.T) {
			c, err := Parse("config.yaml", []byte(commentedKey.ReplaceAllString(text, "$1$2")))
			if err != nil {
				t.Fatalf("as %s: %v", role, err)
			}
			maps.Copy(all.at, c.at)
		})
	}
	for _, key := range everyKey(t) {
		if _, ok := all.at[key]; !ok && key != "publish.stream.tls" && !strings.HasPrefix(key, "publish.stream.tls.") {
			t.Errorf("the sample does not name %s", key) // the keys of tls are those of an edge
		}
	}
}

// splitFleet takes the keys of a hub with an engine, and those of an edge, out of the sample. They
// have no default to show: the sample is neither.
func splitFleet(sample string) (rest, hub, edge string) {
	var to *string
	indent := 0
	for line := range strings.SplitAfterSeq(sample, "\n") {
		m := commentedKey.FindStringSubmatch(line)
		switch {
		case m == nil && to == nil, m != nil && to != nil && len(m[1]) > indent: // goes on
		case m != nil && (m[2] == "publish:" || m[2] == "nats:"):
			to, indent = &hub, len(m[1])
		case m != nil && m[2] == "stream:":
			to, indent = &edge, len(m[1])
		default:
			to = nil
		}
		if to == nil {
			rest += line
			continue
		}
		*to += line
	}
	return rest, hub, edge
}

// keysExpected is what is said of a number in the place of keys.
var keysExpected = regexp.MustCompile(`(\S+): expected keys with values \((.*)\)`)

// everyKey asks the parser itself which keys there are.
func everyKey(t *testing.T) []string {
	_, err := Parse("x", []byte("x: 1"))
	top := regexp.MustCompile(`the keys are (.*)`).FindStringSubmatch(fmt.Sprint(err))
	if top == nil {
		t.Fatalf("no keys in %v", err)
	}
	var found []string
	var collect func(path string, names []string)
	collect = func(path string, names []string) {
		for _, name := range names {
			key := path + name
			found = append(found, key)
			for _, inner := range []string{key, key + "[0]"} {
				_, err := Parse("x", []byte(nested(inner)))
				for _, m := range keysExpected.FindAllStringSubmatch(fmt.Sprint(err), -1) {
					if m[1] == inner {
						collect(inner+".", strings.Split(m[2], ", "))
					}
				}
			}
		}
	}
	collect("", strings.Split(top[1], ", "))
	if len(found) < 70 {
		t.Errorf("only %d keys: %s", len(found), found)
	}
	return found
}

// nested is a document with a number at a path such as directories[0].bind.
func nested(path string) string {
	key, rest, _ := strings.Cut(path, ".")
	inner := "1"
	if rest != "" {
		inner = nested(rest)
	}
	if name, ok := strings.CutSuffix(key, "[0]"); ok {
		key, inner = name, "["+inner+"]"
	}
	return "{" + key + ": " + inner + "}"
}
