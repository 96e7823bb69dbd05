package testenv_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// mapTable is the socketmap as docs/postfix.md writes it for Postfix. mapConfig makes the daemon
// answer there.
const mapTable = "socketmap:unix:rcpt-milter/map.sock:recipients"

var mapConfig = testenv.Overlay("listen_socketmap: unix:/var/spool/postfix/rcpt-milter/map.sock\n")

// socketmap starts the daemon with its socketmap, and a smtpd that asks the map instead of the
// milter. It returns when the index is fresh.
func (e *edge) socketmap(edits ...func(string) string) {
	e.t.Helper()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Configure(e.ctx, append(edits, mapConfig)...))
	e.must(e.Start(e.ctx, testenv.Milter))
	_, err := e.AwaitFresh(e.ctx)
	e.must(err)
	e.smtpd(testenv.PortSpare, "smtpd_milters =", "relay_recipient_maps = "+mapTable)
}

// smtpd adds a smtpd with other settings on a spare port of mx, until the end of the test. It
// returns when it answers. No process with former settings can answer there, as after a reload.
func (e *edge) smtpd(port int, settings ...string) {
	e.t.Helper()
	service := fmt.Sprintf("%d/inet", port)
	line := fmt.Sprintf("%d inet n - y - - smtpd", port)
	for _, s := range settings {
		line += " -o { " + s + " }"
	}
	address, err := e.Address(e.ctx, testenv.MX, port)
	e.must(err)
	greets := func(ctx context.Context) error {
		session, err := testenv.DialSMTP(ctx, address)
		if err != nil {
			return err
		}
		defer session.Close()
		return session.Open("")
	}
	e.root("postconf -M '" + service + "=" + line + "'\npostfix reload")
	e.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c := &edge{Harness: e.Harness, t: e.t, ctx: ctx}
		c.root("postconf -MX " + service + "\npostfix reload")
		c.must(testenv.Await(ctx, poll, func(ctx context.Context) (bool, error) { return greets(ctx) != nil, nil }))
	})
	e.must(testenv.AwaitNil(e.ctx, poll, greets))
}

// deferral matches the reply of a dialogue that defers a recipient. A map cannot give Postfix a
// reply: each deferral is the same one.
var deferral = regexp.MustCompile(`(?m)^S: 4\d\d \S+ (<[^>]*>).*$`)

// rejection matches the reply of a dialogue that rejects a recipient, without a variable.
var rejection = regexp.MustCompile(`(?m)^S: (550 [^$\n]*)$`)

// asMap returns a dialogue for the socketmap: Postfix defers in its own words, and repeats an address
// in the case of the client.
func asMap(text string) string {
	text = deferral.ReplaceAllString(text, "S: 451 4.3.0 $1: Temporary lookup failure")
	return rejection.ReplaceAllStringFunc(text, func(line string) string {
		return "S~ (?i)^" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimPrefix(line, "S: ")), `\.\.\.`, ".*") + "$"
	})
}

// mapDialogue is dialogue with the smtpd of socketmap.
func (e *edge) mapDialogue(name string, variables map[string]string) {
	e.t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "dialogues", name+".txt"))
	e.must(err)
	e.hold(testenv.MX, testenv.PortSpare, name, asMap(string(text)), variables)
}

// TestSocketmap runs the dialogues of the folder with the socketmap in place of the milter, those of
// VRFY, and lookups by postmap.
func TestSocketmap(t *testing.T) {
	world := require(t)
	world.socketmap()
	files, err := filepath.Glob("testdata/dialogues/*.txt")
	world.must(err)
	for _, file := range append(files, "testdata/dialogues/socketmap/vrfy.txt") {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "testdata/dialogues/"), ".txt")
		t.Run(name, func(t *testing.T) { world.in(t, dialogueDeadline).mapDialogue(name, nil) })
	}
	for _, lookup := range []struct {
		name, key, value string
		trouble          bool // the map cannot tell
	}{
		{"known", "alice@corp.example", "known", false},
		{"another spelling", `"ALICE"@Corp.Example`, "known", false},
		{"unknown", "nobody@corp.example", "", false},
		{"always accepted", "postmaster@corp.example", "always", false},
		{"mode report", "nobody@report.example", "would-refuse", false},
		{"mode pass", "nobody@pass.example", "not-ours", false},
		{"a foreign domain", "nobody@elsewhere.example", "not-ours", false},
		{"a domain without a known address", "nobody@other.sub.example", "", true},
	} {
		t.Run("postmap/"+lookup.name, func(t *testing.T) {
			out := world.in(t, dialogueDeadline).postmap(lookup.key)
			if strings.TrimSpace(out.Stdout) != lookup.value || (out.Status == 0) != (lookup.value != "") ||
				(out.Stderr != "") != lookup.trouble {
				t.Errorf("postmap -q: exit status %d, %q, %q", out.Status, out.Stdout, out.Stderr)
			}
		})
	}
}

// postmap looks a key up in the map, as docs/postfix.md says it.
func (e *edge) postmap(key string) testenv.Output {
	e.t.Helper()
	out, err := e.Exec(e.ctx, testenv.MX, "sh", "-c", `cd /var/spool/postfix && exec postmap -q "$1" `+mapTable, "sh",
		key)
	e.must(err)
	return out
}

// byClient are dialogues of settings whose replies depend on the client. Postfix does not tell a
// map who asks.
var byClient = []string{"harvest-*/*", "inside/outside", "inside-networks/outside", "lists/exempt", "lists/exempt-ipv6",
	"logins/logged-in"}

// TestSocketmapSettings runs the dialogues of the folders of settings with the socketmap in place of
// the milter.
func TestSocketmapSettings(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(settings, "*", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no settings: %v", err)
	}
	dialogues := map[string][]string{} // by folder
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, settings+"/"), ".txt")
		if !slices.ContainsFunc(byClient, func(pattern string) bool {
			matched, err := filepath.Match(pattern, name)
			return err == nil && matched
		}) {
			dialogues[filepath.Dir(name)] = append(dialogues[filepath.Dir(name)], name)
		}
	}
	world := require(t)
	world.socketmap()
	for folder, names := range dialogues {
		t.Run(folder, func(t *testing.T) {
			e := world.in(t, testDeadline)
			e.copySettings(folder, mapConfig)
			e.reload(0)
			e.must(e.Sync(e.ctx, "--full"))
			for _, name := range names {
				t.Run(filepath.Base(name), func(t *testing.T) {
					e.in(t, dialogueDeadline).mapDialogue("settings/"+name, nil)
				})
			}
		})
	}
}

// TestSocketmapCannotTell: if the daemon does not answer, or cannot tell, the socketmap defers
// recipients, and VRFY and postmap know nothing either.
func TestSocketmapCannotTell(t *testing.T) {
	e := require(t)
	e.socketmap()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.unable("stopped", "socketmap/daemon-away")
	e.must(e.Start(e.ctx, testenv.Milter))
	e.mapDialogue("story/judged", nil)
	e.must(e.Kill(e.ctx, testenv.Milter))
	e.unable("killed", "socketmap/daemon-away")

	// No pass may end from here on.
	e.must(e.Pause(e.ctx, testenv.DC))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c := &edge{Harness: e.Harness, t: t, ctx: ctx}
		c.must(c.Stop(ctx, testenv.Milter))
		c.must(c.EmptyStore(ctx)) // with what was set aside
	})
	e.must(e.Start(e.ctx, testenv.Milter))
	e.must(e.Stop(e.ctx, testenv.Milter)) // a clean end writes the table files
	e.must(e.Start(e.ctx, testenv.Milter))
	e.must(e.DamageStore(e.ctx))
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		e.postmap("alice@corp.example") // the daemon finds the damage when it reads
		status, err := e.Status(ctx)
		if err == nil && status.StoreState != "damaged" {
			err = fmt.Errorf("store_state is %q", status.StoreState)
		}
		return err
	}))
	e.unable("damaged store", "socketmap/damaged")
	e.must(e.Restart(e.ctx, testenv.Milter))
	e.unable("damaged store set aside", "story/not-ready")
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.EmptyStore(e.ctx))
	e.must(e.Start(e.ctx, testenv.Milter))
	e.unable("not ready", "story/not-ready")
}

// unable checks that the socketmap has no answer about an unknown recipient.
func (e *edge) unable(why, dialogue string) {
	e.t.Helper()
	e.mapDialogue(dialogue, nil)
	if out := e.postmap("nobody@corp.example"); out.Status == 0 || out.Stderr == "" {
		e.t.Errorf("%s: postmap -q: exit status %d, %q", why, out.Status, out.Stdout)
	} else {
		e.t.Logf("%s: postmap: %s", why, strings.TrimSpace(out.Stderr))
	}
}

// TestSocketmapDoctor: doctor has nothing to say about the documented setting of the map, and finds
// a wrong name of the map.
func TestSocketmapDoctor(t *testing.T) {
	c := openClinic(t, mapConfig)
	set := func(table string) string {
		return "postconf -c . -e 'relay_recipient_maps = " + table + "'"
	}
	results := c.examine(true, "", set(mapTable), set("socketmap:unix:rcpt-milter/map.sock:recipient"),
		set("socketmap:unix:rcpt-milter/map.socket:recipients"))
	var names []string
	for _, r := range results[1:] {
		for _, f := range added(results[0].findings, r.findings) {
			names = append(names, f.Name)
		}
	}
	if want := []string{"socketmap-name", "socketmap-missing"}; !slices.Equal(names, want) {
		t.Errorf("doctor finds %q, want %q", names, want)
	}
}
