package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNoCheckout means that the current directory is not inside a checkout of the project.
var ErrNoCheckout = errors.New("not inside a checkout: no directory above has both go.mod and docker-compose.yml")

// checkout is the project directory that the harness belongs to.
type checkout string

// findCheckout searches dir and its parents.
func findCheckout(dir string) (checkout, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		if exists(filepath.Join(dir, "go.mod")) && exists(filepath.Join(dir, "docker-compose.yml")) {
			return checkout(dir), nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", ErrNoCheckout
		}
		dir = up
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// project returns the compose project's name: the same for every run in this checkout, another
// for every other checkout.
func (c checkout) project() string {
	sum := sha256.Sum256([]byte(c))
	return "rcpt-milter-" + hex.EncodeToString(sum[:4])
}

// path joins elements to the checkout's directory.
func (c checkout) path(elem ...string) string {
	return filepath.Join(append([]string{string(c)}, elem...)...)
}

// statePath returns the path of a file below .testenv, which holds locks, logs and build output
// and is never committed.
func (c checkout) statePath(elem ...string) (string, error) {
	path := c.path(append([]string{".testenv"}, elem...)...)
	return path, os.MkdirAll(filepath.Dir(path), 0o755)
}

// digest returns a digest of a directory: its files' names, modes and bytes.
func digest(dir string) (string, error) {
	hash := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s %o %d\n", name, info.Mode().Perm()&0o111, len(text))
		hash.Write(text)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", dir, err)
	}
	return hex.EncodeToString(hash.Sum(nil)[:6]), nil
}
