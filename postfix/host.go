package postfix

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rcpt-milter/postfix/table"
)

// ErrNoPostfix is the error of a missing command of Postfix. The wrapping error names the
// command.
var ErrNoPostfix = errors.New("there is no Postfix on this host")

// LocalHost implements Host except Judge, by the commands of Postfix on this host.
type LocalHost struct {
	ctx   context.Context
	dir   string // of main.cf; empty means the default
	queue string // queue directory; set by Settings
}

// NewLocalHost returns the instance with its main.cf in dir. Empty means the default
// instance. Its commands end with ctx.
func NewLocalHost(ctx context.Context, dir string) *LocalHost { return &LocalHost{ctx: ctx, dir: dir} }

// Settings runs postconf.
func (h *LocalHost) Settings() (Settings, error) {
	var outputs []string
	for _, args := range [][]string{nil, {"-n"}, {"-M"}, {"-P"}} {
		var out strings.Builder
		if err := h.run("postconf", args, &out); err != nil {
			return Settings{}, err
		}
		outputs = append(outputs, out.String())
	}
	s := ParseSettings(outputs[0], outputs[1], outputs[2], outputs[3])
	s.Dir, h.queue = h.dir, s.queue()
	return s, nil
}

// run runs one of Postfix's commands.
func (h *LocalHost) run(name string, args []string, out io.Writer) error {
	path, err := find(name)
	if err != nil {
		return err
	}
	if h.dir != "" {
		args = append([]string{"-c", h.dir}, args...)
	}
	var trouble bytes.Buffer
	command := exec.CommandContext(h.ctx, path, args...)
	command.Env = append(os.Environ(), "LC_ALL=C")
	command.Stdout, command.Stderr = out, &trouble
	err = command.Run()
	var status *exec.ExitError
	if errors.As(err, &status) {
		return &commandError{name: name, said: strings.TrimSpace(trouble.String()), status: status.ExitCode()}
	}
	return err
}

// find looks for a command in PATH and in the sbin directories.
func find(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s is neither in PATH nor in /usr/sbin; run this where Postfix runs", ErrNoPostfix, name)
}

// commandError is the error of a command of Postfix that failed.
type commandError struct {
	name, said string
	status     int
}

func (e *commandError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("%s ends with status %d", e.name, e.status)
	}
	last := e.said[strings.LastIndexByte(e.said, '\n')+1:]
	return strings.TrimPrefix(strings.TrimPrefix(last, e.name+": "), "fatal: ")
}

// cannotList lists the types of tables that have look-ups but no list.
var cannotList = []string{"regexp", "pcre", "ldap", "mysql", "pgsql", "sqlite", "mongodb", "tcp", "socketmap",
	"memcache",
	"nis", "nisplus", "netinfo", "static", "environ", "unix", "randmap", "pipemap", "fail", "internal"}

// Keys implements Host with postmap -s.
func (h *LocalHost) Keys(table string, visit func(key, value string)) error {
	kind, name, _ := strings.Cut(table, ":")
	if strings.HasPrefix(table, "/") {
		return words(table, visit)
	}
	if kind == "cidr" { // a text file that postmap does not list
		return eachLine(name, func(line string) {
			key, value, _ := strings.Cut(line, " ")
			visit(key, strings.TrimSpace(value))
		})
	}
	if slices.Contains(cannotList, kind) {
		return ErrCannotList
	}
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := h.run("postmap", []string{"-s", table}, out)
		out.CloseWithError(err)
		ended <- err
	}()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "\t")
		visit(key, value)
	}
	in.CloseWithError(lines.Err()) // ends postmap if reading ended early
	err := <-ended
	var said *commandError
	if errors.As(err, &said) && (strings.Contains(said.said, "not supported") ||
		strings.Contains(said.said, "unsupported dictionary type")) {
		return fmt.Errorf("%w (%w)", ErrCannotList, err)
	}
	if broken := lines.Err(); broken != nil { // or the error of the command
		return broken
	}
	return err
}

// words visits the words of a file that a list in main.cf names.
func words(path string, visit func(key, value string)) error {
	return eachLine(path, func(line string) {
		for _, word := range list(line) {
			visit(word, "")
		}
	})
}

// eachLine visits the logical lines of a file, with single spaces.
func eachLine(path string, visit func(line string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return table.EachLine(f, visit)
}

// Has implements Host with postmap -q.
func (h *LocalHost) Has(table, key string) (bool, error) {
	err := h.run("postmap", []string{"-q", key, table}, io.Discard)
	var said *commandError
	if errors.As(err, &said) && said.status == 1 && !strings.Contains(said.said, "fatal:") &&
		!strings.Contains(said.said, "error:") {
		return false, nil
	}
	return err == nil, err
}

// Resolve implements Host.
func (h *LocalHost) Resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	// The directory of a missing socket may exist.
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// dialTimeout limits the attempt to connect to a unix socket.
const dialTimeout = 2 * time.Second

// Socket implements Host.
func (h *LocalHost) Socket(path, owner string) Socket {
	info, err := os.Stat(path)
	if err != nil {
		s := Socket{}
		if !errors.Is(err, os.ErrNotExist) {
			s.Obstacle = err.Error()
		}
		return s
	}
	s := Socket{Exists: true, IsSocket: info.Mode()&os.ModeSocket != 0}
	s.Obstacle = h.obstacle(path, owner)
	s.Writable = s.Obstacle == ""
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if s.Answers = !errors.Is(err, syscall.ECONNREFUSED); err == nil {
		conn.Close()
	}
	return s
}

// obstacle returns what prevents a user from connecting to a socket, or "". smtpd starts in
// the queue directory, so the directories above it do not matter.
func (h *LocalHost) obstacle(path, owner string) string {
	id, err := identify(owner)
	if err != nil {
		return err.Error()
	}
	if !id.may(path, 2) {
		return describe(path) + " and does not let it write"
	}
	for dir := filepath.Dir(path); dir != "/" && dir != h.queue; dir = filepath.Dir(dir) {
		if !id.may(dir, 1) {
			return describe(dir) + " and does not let it through"
		}
	}
	return ""
}

// describe returns mode and owner of a file.
func describe(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return path
	}
	owner, group := fmt.Sprint(stat.Uid), fmt.Sprint(stat.Gid)
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return fmt.Sprintf("%s has mode %04o and belongs to %s:%s", path, info.Mode().Perm(), owner, group)
}

// identity is a user and its groups.
type identity struct {
	uid    int
	groups []string
}

func identify(name string) (identity, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return identity{}, fmt.Errorf("mail_owner: %w", err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return identity{}, fmt.Errorf("mail_owner: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	return identity{uid, append(groups, u.Gid)}, err
}

// may reports whether the user has a permission on a file: 4 read, 2 write, 1 search.
func (i identity) may(path string, right os.FileMode) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	switch {
	case int(stat.Uid) == i.uid:
		return mode>>6&right != 0
	case slices.Contains(i.groups, strconv.Itoa(int(stat.Gid))):
		return mode>>3&right != 0
	}
	return mode&right != 0
}
