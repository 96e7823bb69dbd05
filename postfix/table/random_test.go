package table

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var randomLives = flag.Int("table.lives", 12, "random lives of an accept file")

// entries is what a file or a table names: mailboxes, @domain, and "@alias @target".
type entries map[string]bool

// size counts entries as the guard does: an alias once, with all of its targets.
func (e entries) size() int {
	keys := map[string]bool{}
	for key := range e {
		first, _, _ := strings.Cut(key, " ")
		keys[first] = true
	}
	return len(keys)
}

// lost returns how many of these entries others do not have, counted as the guard does.
func (e entries) lost(others entries) int { return others.and(e).size() - others.size() }

func (e entries) and(o entries) entries {
	both := maps.Clone(e)
	maps.Copy(both, o)
	return both
}

// text writes a file. Only a part of its lines is there if part is below 1.
func (e entries) text(part float64) string {
	byKey := map[string][]string{}
	for key := range e {
		first, target, alias := strings.Cut(key, " ")
		if !alias {
			target = "OK"
		}
		byKey[first] = append(byKey[first], target)
	}
	var lines []string
	for _, first := range slices.Sorted(maps.Keys(byKey)) {
		slices.Sort(byKey[first])
		lines = append(lines, first+" "+strings.Join(byKey[first], " ")+"\n")
	}
	return strings.Join(lines[:int(part*float64(len(lines)))], "")
}

// entriesOf returns what a table names.
func entriesOf(t *Table) entries {
	e := entries{}
	for key := range t.All() {
		e[key] = true
	}
	for domain, targets := range t.AllAliases() {
		for _, target := range targets {
			e["@"+domain+" @"+target] = true
		}
	}
	return e
}

// life is an accept file, a daemon that reads it, and a model of what the daemon must have in effect.
type life struct {
	*watching
	random  *rand.Rand
	file    entries // nil: it is missing
	written int     // versions written; each has a time of its own

	active entries // what must be in effect
	sound  entries // the version that was last applied as a whole; after a start what the copy has
	whole  int     // size of that version
	doubt  bool    // the copy was damaged, and no reload has come since
	passed bool    // the file changed before a start that could not use it; no look has read it at rest since
	copied bool    // there is a sound copy on disk

	onDisk   entries   // what the copy has
	onWhole  int       // whole, in the copy
	modified time.Time // that of the file, in the copy
}

// saved is the rule of the copy: it is that in effect unless the file is in doubt.
func (l *life) saved() {
	if !l.doubt && !l.passed {
		l.onDisk, l.onWhole, l.modified = l.active, l.whole, l.tables.Status()[0].Modified
	}
}

// put writes a version of the file in place.
func (l *life) put(text string) {
	l.written++
	l.write("one", text)
	at := time.Unix(1e9+int64(l.written), 0)
	if err := os.Chtimes(l.path("one"), at, at); err != nil {
		l.t.Fatal(err)
	}
}

// usable returns what a readable file has.
func (l *life) usable() (e entries, ok bool) {
	table, err := ReadFile(l.path("one"))
	if err != nil || table.Len() == 0 {
		return nil, false
	}
	return entriesOf(table), true
}

// judged is the rule of a look: entries go only if few are lost.
func (l *life) judged() {
	now, ok := l.usable()
	if !ok {
		return
	}
	if lost := l.sound.lost(now); lost >= 100 && 2*lost > l.whole {
		now = l.active.and(now)
	} else {
		l.sound, l.whole = now, now.size()
	}
	l.active, l.passed = now, false
}

// start makes new tables, as a start does.
func (l *life) start(wait func(time.Duration) bool, now func() time.Time) {
	l.tables = NewFiles(Config{Rest: time.Second, Wait: wait, Now: now, Log: slog.New(slog.DiscardHandler),
		Copies: Copies{Dir: l.copies()}})
}

// later is the clock of a start long after the last change.
func later() time.Time { return time.Now().Add(time.Hour) }

// keepWriting changes the file at each wait, so that it is never at rest.
func (l *life) keepWriting(time.Duration) bool {
	l.put(l.file.text(l.random.Float64()))
	return true
}

// restless is the rule of a file that does not come to rest: nothing goes.
func (l *life) restless() {
	if now, ok := l.usable(); ok {
		l.active = l.active.and(now)
	}
}

// damage spoils the copy on disk.
func (l *life) damage() {
	path := filepath.Join(l.copies(), l.copyInfo().Name())
	b, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, flip(b, l.random.IntN(len(b))), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.copied = false
}

// steps are what may happen. Each leaves the model as the daemon must be.
var steps = []struct {
	name string
	do   func(*life)
}{
	{"grow", func(l *life) { l.grow(1 + l.random.IntN(200)); l.put(l.file.text(1)) }},
	{"lose few", func(l *life) { l.lose(l.random.IntN(99)); l.put(l.file.text(1)) }},
	{"lose many", func(l *life) { l.lose(len(l.file) * (1 + l.random.IntN(9)) / 10); l.put(l.file.text(1)) }},
	{"exchange", func(l *life) { l.file = entries{}; l.grow(1 + l.random.IntN(500)); l.put(l.file.text(1)) }},
	{"truncate", func(l *life) { l.put("") }},
	{"remove", func(l *life) { os.Remove(l.path("one")) }},
	{"half write", func(l *life) { l.put(l.file.text(l.random.Float64())) }},
	{"complete", func(l *life) { l.put(l.file.text(1)) }},
	{"one look", func(l *life) { l.put(l.file.text(1)); l.tables.Pass() }},
	{"looks", func(l *life) { l.tables.Pass(); l.tables.Pass(); l.judged() }},
	{"looks while it is written", func(l *life) {
		l.tables.Pass()
		l.tables.Pass()
		l.judged()
		for range unsettledLooks + 1 {
			l.keepWriting(0)
			l.tables.Pass()
		}
		l.restless()
	}},
	{"reload", func(l *life) {
		l.use(l.path("one"))
		if now, ok := l.usable(); ok {
			l.active, l.sound, l.whole = now, now, now.size()
			l.doubt, l.passed, l.copied = false, false, true
		}
	}},
	{"looks during a reload", func(l *life) {
		l.tables.Pass()
		l.tables.Pass()
		l.judged()
		l.grow(50)
		l.put(l.file.text(1))
		p, err := l.tables.Prepare([]string{l.path("one")})
		if err != nil {
			l.t.Fatal(err)
		}
		prepared, ok := l.usable()
		for range unsettledLooks + 1 {
			l.keepWriting(0)
			l.tables.Pass()
		}
		l.tables.Use(p)
		if _, gained := l.usable(); ok && !gained {
			l.active = prepared
		} else if ok {
			l.active = l.active.and(prepared)
		}
		if ok {
			l.sound, l.whole = prepared, prepared.size()
		}
		l.restless()
		if ok {
			l.doubt, l.passed, l.copied = false, false, true
		}
	}},
	{"reload while it is written", func(l *life) {
		l.tables.config.Wait = l.keepWriting
		defer func() { l.tables.config.Wait = func(time.Duration) bool { return true } }()
		l.keepWriting(0)
		l.use(l.path("one"))
		l.restless()
	}},
	{"restart", func(l *life) { l.restart(func(time.Duration) bool { return true }, later) }},
	{"restart while it is written", func(l *life) {
		if !l.copied {
			return
		}
		l.keepWriting(0)
		l.start(l.keepWriting, time.Now)
		l.use(l.path("one"))
		l.tables.config.Wait = func(time.Duration) bool { return true }
		l.active, l.sound, l.whole, l.passed = l.onDisk, l.onDisk, l.onWhole, true
		l.restless()
	}},
	{"restart with a damaged copy", func(l *life) {
		if l.copied && l.random.IntN(4) == 0 {
			l.damage()
			l.restart(func(time.Duration) bool { return true }, later)
		}
	}},
}

// restart is a start with a file at rest. Without a sound copy, it needs the file.
func (l *life) restart(wait func(time.Duration) bool, now func() time.Time) {
	l.start(wait, now)
	if l.copied {
		l.use(l.path("one"))
		info, err := os.Stat(l.path("one"))
		l.active, l.sound, l.whole = l.onDisk, l.onDisk, l.onWhole
		l.passed = err != nil || !info.ModTime().Equal(l.modified)
		l.judged()
		return
	}
	l.doubt, l.passed = true, false
	if _, ok := l.usable(); !ok {
		if _, err := l.tables.Prepare([]string{l.path("one")}); err == nil {
			l.t.Error("neither a file nor a copy, and no error")
		}
		l.put(l.file.text(1))
	}
	l.use(l.path("one"))
	l.active, _ = l.usable()
	l.sound, l.whole = l.active, l.active.size()
}

func (l *life) grow(n int) {
	for range n {
		switch l.random.IntN(10) {
		case 0:
			l.file[fmt.Sprintf("@whole%d.example", l.random.IntN(100))] = true
		case 1:
			l.file[fmt.Sprintf("@alias%d.example @target%d.example", l.random.IntN(100), l.random.IntN(9))] = true
		default:
			l.file[fmt.Sprintf("u%d@x.example", l.random.IntN(2000))] = true
		}
	}
}

// lose takes entries out of the file, all but one at most.
func (l *life) lose(n int) {
	keys := slices.Sorted(maps.Keys(l.file))
	l.random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, key := range keys[:min(n, len(keys)-1)] {
		delete(l.file, key)
	}
}

// TestRandomLife: no entry that was in effect is absent unless the file lost few, a reload applied the file,
// or the daemon says that it cannot tell.
func TestRandomLife(t *testing.T) {
	for seed := range *randomLives {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := &life{watching: &watching{t: t, dir: t.TempDir()}, random: rand.New(rand.NewPCG(uint64(seed), 1)),
				file: entries{}, copied: true}
			l.grow(300)
			l.put(l.file.text(1))
			l.start(func(time.Duration) bool { return true }, later)
			l.use(l.path("one"))
			l.active, _ = l.usable()
			l.sound, l.whole = l.active, l.active.size()
			l.saved()
			var done []string
			for range 60 {
				step := steps[l.random.IntN(len(steps))]
				done = append(done, step.name)
				step.do(l)
				if got := entriesOf(l.tables.Snapshot()[0]); !maps.Equal(got, l.active) {
					absent := len(l.active.and(got)) - len(got)
					t.Fatalf("%d entries in effect, want %d, %d absent, after %q", len(got), len(l.active), absent,
						done)
				}
				if got := l.tables.Status()[0].Doubt != ""; got != (l.doubt || l.passed) {
					t.Fatalf("doubt %t, want %t, after %q", got, !got, done)
				}
				l.saved()
			}
		})
	}
}
