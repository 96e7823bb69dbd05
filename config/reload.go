package config

import (
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// restartKeys are the keys that take effect only at a start, because the daemon holds what
// they name open while it runs.
var restartKeys = []struct {
	key string
	of  func(*Config) any // a pointer
}{
	{"listen", func(c *Config) any { return &c.Listen }},
	{"listen_socketmap", func(c *Config) any { return &c.ListenSocketmap }},
	{"listen_allow", func(c *Config) any { return &c.ListenAllow }},
	{"socket.group", func(c *Config) any { return &c.Socket.Group }},
	{"socket.mode", func(c *Config) any { return &c.Socket.Mode }},
	{"control", func(c *Config) any { return &c.Control }},
	{"metrics", func(c *Config) any { return &c.Metrics }},
	{"page.listen", func(c *Config) any { return &c.Page.Listen }},
	{"nats", func(c *Config) any { return &c.NATS }},
	{"store.dir", func(c *Config) any { return &c.Store.Dir }},
	{"store.encryption_key_file", func(c *Config) any { return &c.Store.KeyFile }},
	{"store.min_free", func(c *Config) any { return &c.Store.MinFree }},
	{"store.rebuild", func(c *Config) any { return &c.Store.Rebuild }},
}

// WithRestartKeysOf returns the configuration with the values of the running one for keys
// that need a restart. It returns the keys among them that differ.
func (c *Config) WithRestartKeysOf(running *Config) (next *Config, restart []string) {
	kept := *c
	for _, k := range restartKeys {
		ours, theirs := k.of(&kept), k.of(running)
		if !reflect.DeepEqual(ours, theirs) {
			if k.key != "page.listen" || !c.pageIsBesideControl() || !running.pageIsBesideControl() {
				restart = append(restart, k.key)
			}
			reflect.ValueOf(ours).Elem().Set(reflect.ValueOf(theirs).Elem())
		}
	}
	return &kept, restart
}

// pageIsBesideControl reports whether page.listen only follows control.
func (c *Config) pageIsBesideControl() bool { return c.Page.Listen == pageBeside(c.Control) }

// Changes returns the keys whose values differ from those of another configuration. Changes
// within a directory are returned as "directories[corp]".
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

// changedDirectories returns the directories that were added, removed or changed.
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

// keyOf returns the key of a field of Config, such as removal_grace for RemovalGrace and nat64
// for NAT64.
func keyOf(field string) string {
	var key strings.Builder
	before := 'A'
	for _, r := range field {
		if unicode.IsUpper(r) && !unicode.IsUpper(before) {
			key.WriteByte('_')
		}
		key.WriteRune(r)
		before = r
	}
	return strings.ToLower(key.String())
}

// ControlSocket returns the control socket of a file that may be invalid. With it, commands reach a
// daemon that runs with an earlier version of the file. Without the key it returns the default. It
// returns false if the file cannot be read.
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
	if root == nil { // no valid YAML: try the one line
		root = r.parse([]byte(controlLine(string(data))))
	}
	if root == nil {
		return c.Control, true
	}
	c.fields()(value{reader: r, node: root})
	return c.Control, true
}

// controlLine returns the line with the key control.
func controlLine(text string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "control:") {
			return line
		}
	}
	return ""
}
