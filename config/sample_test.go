package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// commentedKey is a key that a file shows and does not set: text has a space after #.
var commentedKey = regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`)

// TestSample: the configuration that packages bring is valid, names every key there is,
// and shows with each key that is commented out its default.
func TestSample(t *testing.T) {
	text, err := os.ReadFile("../deploy/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	asShipped, err := Parse("config.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Parse("config.yaml", commentedKey.ReplaceAll(text, []byte("$1$2")))
	if err != nil {
		t.Fatalf("with every key in effect: %v", err)
	}
	if d := diff(asShipped, all); d != "" {
		t.Errorf("keys that are commented out do not show their default (-as shipped +all in effect):\n%s", d)
	}
	for _, key := range everyKey(t) {
		if _, ok := all.at[key]; !ok {
			t.Errorf("the sample does not name %s", key)
		}
	}
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
