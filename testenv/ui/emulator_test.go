package ui

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// envScreenshots names a directory in which tests write pictures of the page and texts of the screen.
const envScreenshots = "TESTENV_SCREENSHOTS"

// emulator is a pseudo terminal that runs a command, and the screen that its user sees.
type emulator struct {
	t        *testing.T
	pty      *os.File
	cmd      *exec.Cmd
	original *unix.Termios // settings before the command
	done     chan error

	mu      sync.Mutex
	screen  *vt.Emulator
	raw     bytes.Buffer
	hidden  bool          // the cursor is
	changed chan struct{} // closed when no more output can come
}

// prompt is the content of the terminal before the command.
const prompt = "user@relay:~$"

// onTerminal starts a command on a terminal of this size. Entries of environment override others.
func (r *rig) onTerminal(columns, rows int, environment []string, args ...string) *emulator {
	r.t.Helper()
	e := &emulator{t: r.t, done: make(chan error, 1), changed: make(chan struct{}, 1),
		screen: vt.NewEmulator(columns, rows)}
	e.screen.SetCallbacks(vt.Callbacks{CursorVisibility: func(visible bool) { e.hidden = !visible }})
	e.screen.Write([]byte(prompt + "\r\n"))
	master, slave, err := pty.Open()
	if err != nil {
		r.t.Fatal(err)
	}
	defer slave.Close()
	e.pty = master
	if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		r.t.Fatal(err)
	}
	e.original = e.settings()
	e.cmd = r.command(args...)
	e.cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), environment...)
	e.cmd.Stdin, e.cmd.Stdout, e.cmd.Stderr = slave, slave, slave
	e.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := e.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); e.read() }()
	go func() { e.done <- e.cmd.Wait() }()
	r.t.Cleanup(func() {
		e.cmd.Process.Kill()
		e.done <- <-e.done
		slave.Close()
		master.Close()
		<-read
	})
	return e
}

// read draws the output of the command until all writers have closed the terminal.
func (e *emulator) read() {
	b := make([]byte, 4096)
	for {
		n, err := e.pty.Read(b)
		e.mu.Lock()
		e.screen.Write(b[:n])
		e.raw.Write(b[:n])
		e.mu.Unlock()
		if err != nil {
			close(e.changed)
			return
		}
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}
}

func (e *emulator) settings() *unix.Termios {
	e.t.Helper()
	s, err := unix.IoctlGetTermios(int(e.pty.Fd()), unix.TCGETS)
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// text returns the content of the screen.
func (e *emulator) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.TrimRight(e.screen.String(), " \n")
}

// fullScreen reports whether the command draws on the alternate screen without a cursor.
func (e *emulator) fullScreen() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.screen.IsAltScreen() && e.hidden
}

// await waits until ok holds for the screen, and returns that screen.
func (e *emulator) await(what string, ok func(screen string) bool) string {
	e.t.Helper()
	limit := time.After(time.Minute)
	for {
		if text := e.text(); ok(text) {
			return text
		}
		select {
		case _, open := <-e.changed:
			if !open && !ok(e.text()) {
				e.t.Fatalf("the command ended without %s:\n%s", what, e.text())
			}
		case <-limit:
			e.t.Fatalf("no %s on the screen:\n%s", what, e.text())
		}
	}
}

// shows waits until all texts are on the screen at one time.
func (e *emulator) shows(texts ...string) string {
	e.t.Helper()
	return e.await(strings.Join(texts, ", "), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// resize does what a terminal does when its window changes its size.
func (e *emulator) resize(columns, rows int) {
	e.t.Helper()
	e.mu.Lock()
	e.screen.Resize(columns, rows)
	e.mu.Unlock()
	if err := pty.Setsize(e.pty, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		e.t.Fatal(err)
	}
}

func (e *emulator) press(keys string) {
	e.t.Helper()
	if _, err := e.pty.WriteString(keys); err != nil {
		e.t.Fatal(err)
	}
}

// end waits for the end of the command and returns its exit status. The test fails unless the
// terminal is restored.
func (e *emulator) end() int {
	e.t.Helper()
	err := <-e.done
	e.done <- err
	for range e.changed { // until all output has been read
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.screen.IsAltScreen() || e.hidden {
		e.t.Errorf("the command left the terminal on the alternate screen: %t, without a cursor: %t",
			e.screen.IsAltScreen(), e.hidden)
	}
	if now := e.settings(); *now != *e.original {
		e.t.Errorf("the command left the terminal with settings %+v, want %+v", now, e.original)
	}
	if !strings.HasPrefix(e.screen.String(), prompt) {
		e.t.Errorf("the earlier content of the terminal is lost:\n%s", e.screen)
	}
	return exitStatus(err)
}

// save writes the screen to a file if a directory for it is configured.
func (e *emulator) save(name string) {
	if dir := os.Getenv(envScreenshots); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".txt"), []byte(e.text()+"\n"), 0o644); err != nil {
			e.t.Error(err)
		}
	}
}
