package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestImageArgs: an image names its base, with the digest if there is one.
func TestImageArgs(t *testing.T) {
	for _, test := range []struct {
		name, base string
		pinned     bool
		labels     []string
	}{
		{"by tag", "", false, []string{"base.name=" + defaultBase}},
		{"by digest", "debian:bookworm-slim@sha256:0a1b", true,
			[]string{"base.name=debian:bookworm-slim", "base.digest=sha256:0a1b"}},
		{"another one", "mirror.example/debian:12", false, []string{"base.name=mirror.example/debian:12"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			getenv := func(name string) string { return map[string]string{"BASE": test.base, "http_proxy": "p"}[name] }
			base, pinned := imageBase(getenv)
			args := (&builder{source: source{version: "1.2"}}).imageArgs("x:1.2", getenv)
			if pinned != test.pinned || !slices.Contains(args, "BASE="+base) ||
				!slices.Contains(args, "http_proxy=p") || args[len(args)-1] != "." {
				t.Errorf("base %s, pinned %v, arguments %q", base, pinned, args)
			}
			var labels []string
			for _, arg := range args {
				if label, ok := strings.CutPrefix(arg, "org.opencontainers.image.base."); ok {
					labels = append(labels, "base."+label)
				}
			}
			if !slices.Equal(labels, test.labels) {
				t.Errorf("labels %q, want %q", labels, test.labels)
			}
		})
	}
	text, err := os.ReadFile("../Dockerfile")
	if err != nil || !strings.Contains(string(text), "ARG BASE="+defaultBase+"\n") {
		t.Errorf("deploy/Dockerfile has another base, %v", err)
	}
}
