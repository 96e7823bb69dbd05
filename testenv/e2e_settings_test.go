package testenv_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcpt-milter/testenv"
)

// Each folder of testdata/dialogues/settings is one way to configure the daemon:
// config.yaml holds what differs from the harness's own configuration, files without
// a suffix go beside it into the daemon's container, and the dialogues are held in the
// order of their names.
const settings = "testdata/dialogues/settings"

// configure starts the daemon as a folder of settings has it.
func (e *edge) configure(name string) {
	e.t.Helper()
	e.must(e.Stop(e.ctx, testenv.Milter))
	files, err := filepath.Glob(filepath.Join(settings, name, "*"))
	e.must(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		e.must(err)
		switch filepath.Ext(file) {
		case ".yaml":
			e.must(e.Configure(e.ctx, testenv.Overlay(string(text))))
		case "":
			e.must(e.WriteFile(e.ctx, testenv.Milter, filepath.Join(filepath.Dir(testenv.ConfigFile),
				filepath.Base(file)), string(text)))
		}
	}
	e.must(e.Start(e.ctx, testenv.Milter))
	_, err = e.AwaitFresh(e.ctx)
	e.must(err)
}

// TestSettings holds the dialogues of every folder of settings.
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

// TestConfirmed: an address that the index does not have yet is found by a search.
func TestConfirmed(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Configure(e.ctx, testenv.Replace("poll: 1s", "poll: 1h"), testenv.Overlay("confirm: {enabled: true, "+
		"timeout: 5s, per_second: 50}\n")))
	e.must(e.Start(e.ctx, testenv.Milter))
	_, err := e.AwaitFresh(e.ctx)
	e.must(err)
	dn, err := domain.AddUser(testenv.Person{Name: "confirmed", Proxies: []string{"SMTP:confirmed@corp.example"}})
	e.must(err)
	t.Cleanup(func() { domain.Delete(dn) })
	e.dialogue("story/confirmed", map[string]string{"user": "confirmed"})
	// The hit has started a pass.
	_, err = e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
}
