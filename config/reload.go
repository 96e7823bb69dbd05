package config

import (
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
)

// restartKeys are the keys that only a start reads, with where their values stand. What
// they stand for is held open as long as the daemon runs.
var restartKeys = []struct {
	key string
	of  func(*Config) any // a pointer
}{
	{"listen", func(c *Config) any { return &c.Listen }},
	{"listen_allow", func(c *Config) any { return &c.ListenAllow }},
	{"socket.group", func(c *Config) any { return &c.Socket.Group }},
	{"socket.mode", func(c *Config) any { return &c.Socket.Mode }},
	{"control", func(c *Config) any { return &c.Control }},
	{"metrics", func(c *Config) any { return &c.Metrics }},
	{"store.dir", func(c *Config) any { return &c.Store.Dir }},
	{"store.encryption_key_file", func(c *Config) any { return &c.Store.KeyFile }},
	{"store.min_free", func(c *Config) any { return &c.Store.MinFree }},
}

// WithRestartKeysOf gives the configuration with the values of another one, which a daemon runs
// by, for the keys that it cannot change without a restart. It names those that differ.
func (c *Config) WithRestartKeysOf(running *Config) (next *Config, restart []string) {
	kept := *c
	for _, k := range restartKeys {
		ours, theirs := k.of(&kept), k.of(running)
		if !reflect.DeepEqual(ours, theirs) {
			restart = append(restart, k.key)
			reflect.ValueOf(ours).Elem().Set(reflect.ValueOf(theirs).Elem())
		}
	}
	return &kept, restart
}

// Changes names the keys whose values differ between two configurations, those of one
// directory as "directories[corp]".
func (c *Config) Changes(from *Config) []string {
	var changed []string
	now, before := reflect.ValueOf(*c), reflect.ValueOf(*from)
	for i := range now.NumField() {
		field := now.Type().Field(i)
		if !field.IsExported() || reflect.DeepEqual(now.Field(i).Interface(), before.Field(i).Interface()) {
			continue
		}
		if field.Name == "Directories" {
			changed = append(changed, changedDirectories(c.Directories, from.Directories)...)
		} else {
			changed = append(changed, keyOf(field.Name))
		}
	}
	return changed
}

// changedDirectories names those that came, went, or are not the same.
func changedDirectories(now, before []Directory) []string {
	var changed []string
	for _, d := range now {
		if !slices.ContainsFunc(before, func(o Directory) bool { return reflect.DeepEqual(o, d) }) {
			changed = append(changed, "directories["+d.Name+"]")
		}
	}
	for _, o := range before {
		if !slices.ContainsFunc(now, func(d Directory) bool { return d.Name == o.Name }) {
			changed = append(changed, "directories["+o.Name+"]")
		}
	}
	if changed == nil {
		changed = []string{"directories"} // in another order
	}
	return changed
}

// keyOf is the key of a field of Config: RemovalGrace is removal_grace.
func keyOf(field string) string {
	var key strings.Builder
	for i, r := range field {
		if r >= 'A' && r <= 'Z' && i > 0 {
			key.WriteByte('_')
		}
		key.WriteRune(r)
	}
	return strings.ToLower(key.String())
}

// ControlSocket is the control socket that a file names which need not be valid: a daemon
// that runs by an earlier version of it can be asked all the same. Where the file names
// none, it is the default one; false: the file cannot be read at all.
func ControlSocket(path string) (Endpoint, bool) {
	f, err := os.Open(path)
	if err != nil {
		return Endpoint{}, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Endpoint{}, false
	}
	c := defaults()
	r := &reader{file: path, at: map[string]position{}, written: map[string]string{}}
	root := r.parse(data)
	if root == nil { // not even YAML: the one line may be
		root = r.parse([]byte(controlLine(string(data))))
	}
	if root == nil {
		return c.Control, true
	}
	c.fields()(value{reader: r, node: root})
	return c.Control, true
}

// controlLine is the line that names the control socket.
func controlLine(text string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "control:") {
			return line
		}
	}
	return ""
}
