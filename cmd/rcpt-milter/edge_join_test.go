package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/stream/engine"
)

// newEngine starts an engine outside of a daemon, whose clock differs from the true time.
func newEngine(t *testing.T, clock time.Duration) *engine.Engine {
	t.Helper()
	at := freePort(t)
	e, err := engine.Start(t.Context(), engine.Config{Listen: at, URLs: []string{"tls://" + at}, Dir: t.TempDir(),
		MaxDisk: 1 << 30, MaxMemory: 1 << 20, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(clock) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	return e
}

// enrolAt returns an enrolment file of an engine.
func enrolAt(t *testing.T, e *engine.Engine) string {
	t.Helper()
	data, err := e.Add(t.Context(), "mx1", engine.Edge, []string{"corp"})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// part returns what stands between two texts, with both.
func part(t *testing.T, s, from, to string) string {
	t.Helper()
	i := strings.Index(s, from)
	if i < 0 {
		t.Fatalf("no %q", from)
	}
	j := strings.Index(s[i:], to)
	if j < 0 {
		t.Fatalf("no %q", to)
	}
	return s[i : i+j+len(to)]
}

// TestEdgeJoinBadFiles: a file that does not work gives an error that names the file or the engine, and
// the remedy; never the secret.
func TestEdgeJoinBadFiles(t *testing.T) {
	here, other := newEngine(t, 0), newEngine(t, 0)
	own, foreign := enrolAt(t, here), enrolAt(t, other)
	expired := enrolAt(t, newEngine(t, -11*365*24*time.Hour))
	seed := func(s string) string { return part(t, s, "SU", "\n") }
	certificate := func(s string) string { return part(t, s, "-----BEGIN CERTIFICATE", "END CERTIFICATE-----\n") }
	urls := func(s string) string { return part(t, s, "# urls: ", "\n") }
	closed := "# urls: tls://" + freePort(t) + "\n"
	const again = "use the file of \"rcpt-milter edge add\""
	for _, tt := range []struct{ name, content, want string }{
		{"empty", "", again},
		{"text", "mx1 is the edge\n", again},
		{"binary", "\x00\x01\x02\xff\xfe", again},
		{"only a certificate", certificate(own), again},
		{"the head only", own[:strings.Index(own, "-----BEGIN")], again},
		{"cut in the seed", own[:strings.Index(own, "\nSU")+20], again},
		{"cut before the certificate", own[:strings.Index(own, "-----BEGIN CERT")], again},
		{"cut in the certificate", own[:len(own)-60], again},
		{"a damaged seed", strings.Replace(own, seed(own), seed(own)[:10]+"AAAA"+seed(own)[14:], 1), again},
		{"no name", strings.Replace(own, "# name: mx1\n", "", 1), again},
		{"a bad name", strings.Replace(own, "# name: mx1\n", "# name: mx*\n", 1), again},
		{"a bad role", strings.Replace(own, "# role: edge\n", "# role: root\n", 1), again},
		{"a bad directory", strings.Replace(own, "# directories: corp\n", "# directories: {corp}\n", 1), again},
		{"a URL without TLS", strings.Replace(own, "# urls: tls:", "# urls: nats:", 1), again},
		{"a URL that is none", strings.Replace(own, urls(own), "# urls: mx1:4222]\n", 1), again},
		{"the credentials of another engine", strings.Replace(own, seed(own), seed(foreign), 1),
			"the engine rejected the credentials"},
		{"the URL of another engine", strings.Replace(own, urls(own), urls(foreign), 1),
			"certificate signed by unknown authority"},
		{"the authority of another engine", strings.Replace(own, certificate(own), certificate(foreign), 1),
			"certificate signed by unknown authority"},
		{"an expired authority", expired, "the certificate of the authority expired on "},
		{"no engine", strings.Replace(own, urls(own), closed, 1), "no engine accepts connections at the urls"},
		{"too large", own + strings.Repeat("#\n", 1<<20), "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &rig{t: t, dir: t.TempDir()}
			file := r.write("mx1.enrol", tt.content)
			began := time.Now()
			status, out, trouble := r.command("edge", "join", file)
			if status != exitFailure || out != "" || !strings.Contains(trouble, tt.want) ||
				!strings.Contains(trouble, file) && !strings.Contains(trouble, "tls://127.0.0.1:") {
				t.Errorf("edge join: exit status %d, want %q\n%s%s", status, tt.want, out, trouble)
			}
			if strings.Contains(trouble, strings.TrimSpace(seed(own))) {
				t.Errorf("the secret is shown: %s", trouble)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	r := &rig{t: t, dir: t.TempDir()}
	for name, want := range map[string]string{filepath.Join(r.dir, "missing"): "does not exist",
		r.dir: "is not a regular file"} {
		if out := r.want(exitFailure, "edge", "join", name); !strings.Contains(out, want) {
			t.Errorf("edge join %s:\n%s", name, out)
		}
	}
	r.want(exitUsage, "edge", "join")
}

// TestEdgeJoinGoodFiles: files that have changed on their way still work, also under names that are
// special in YAML.
func TestEdgeJoinGoodFiles(t *testing.T) {
	own := enrolAt(t, newEngine(t, 0))
	for name, content := range map[string]string{"mx1.enrol": own, "crlf.enrol": strings.ReplaceAll(own, "\n", "\r\n"),
		"mark.enrol": "\ufeff" + own, "a b: c #1.enrol": own, "it's, {odd}.enrol": own} {
		// the last two need quotes in YAML
		t.Run(name, func(t *testing.T) {
			r := &rig{t: t, dir: t.TempDir()}
			file := r.write(name, content)
			status, out, trouble := r.command("edge", "join", file)
			if status != exitOK ||
				!strings.Contains(trouble, "cannot read this directory yet: corp: the engine has no stream") {
				t.Fatalf("edge join: exit status %d\n%s%s", status, out, trouble)
			}
			edge := newJoined(t, out)
			edge.want(exitOK, "check")
			d := edge.serve()
			edge.awaitLink(true)
			d.stop()
			if left, err := os.ReadFile(file); err != nil || string(left) != content {
				t.Error(fmt.Errorf("the file has changed: %w", err))
			}
		})
	}
}
