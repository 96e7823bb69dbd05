package testenv_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcpt-milter/testenv"
)

// Each folder of testdata/dialogues/settings is one configuration of the daemon. config.yaml
// has the differences from the harness's own configuration. Files without a suffix are copied
// beside it into the container of the daemon. The dialogues run in the order of their names.
const settings = "testdata/dialogues/settings"

// configure starts the daemon with the configuration of a folder.
func (e *edge) configure(name string) {
	e.t.Helper()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.copySettings(name)
	e.must(e.Start(e.ctx, testenv.Milter))
	_, err := e.AwaitFresh(e.ctx)
	e.must(err)
}

// copySettings writes the configuration of a folder, changed by the edits, and the files beside it.
func (e *edge) copySettings(name string, edits ...func(string) string) {
	e.t.Helper()
	files, err := filepath.Glob(filepath.Join(settings, name, "*"))
	e.must(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		e.must(err)
		switch filepath.Ext(file) {
		case ".yaml":
			e.must(e.Configure(e.ctx, append([]func(string) string{testenv.Overlay(string(text))}, edits...)...))
		case "":
			e.must(e.WriteFile(e.ctx, testenv.Milter, filepath.Join(filepath.Dir(testenv.ConfigFile),
				filepath.Base(file)), string(text)))
		}
	}
}

// TestSettings runs the dialogues of every folder of settings.
func TestSettings(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(settings, "*", "config.yaml"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no settings: %v", err)
	}
	world := require(t)
	for _, folder := range folders {
		name := filepath.Base(filepath.Dir(folder))
		dialogues, err := filepath.Glob(filepath.Join(settings, name, "*.txt"))
		if err != nil || len(dialogues) == 0 {
			t.Fatalf("no dialogues for %s: %v", name, err)
		}
		t.Run(name, func(t *testing.T) {
			e := world.in(t, testDeadline)
			e.configure(name)
			for _, file := range dialogues {
				t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
					e.in(t, dialogueDeadline).dialogue(strings.TrimSuffix(strings.TrimPrefix(file,
						"testdata/dialogues/"), ".txt"), nil)
				})
			}
		})
	}
}

// TestConfirmed: a search finds an address that the index does not have yet. It does so for the
// milter and for the socketmap.
func TestConfirmed(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	e.socketmap(testenv.Replace("poll: 1s", "poll: 1h"), testenv.Overlay("confirm: {enabled: true, "+
		"timeout: 5s, per_second: 50}\n"))
	for _, door := range []struct {
		user string
		say  func(string, map[string]string)
	}{{"confirmed", e.dialogue}, {"confirmed-by-map", e.mapDialogue}} {
		dn, err := domain.AddUser(testenv.Person{Name: door.user,
			Proxies: []string{"SMTP:" + door.user + "@corp.example"}})
		e.must(err)
		t.Cleanup(func() { domain.Delete(dn) })
		door.say("story/confirmed", map[string]string{"user": door.user})
		// The hit has started a pass.
		_, err = e.AwaitCaughtUp(e.ctx, domain)
		e.must(err)
	}
}
