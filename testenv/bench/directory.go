package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"rcpt-milter/testenv/adsim"
)

// directoryMode is the argument with which this program serves the simulated directory. It is a
// process of its own, so its memory and its garbage collection disturb no measurement.
const directoryMode = "-directory"

const addressesPerObject = 2

// address returns a known address; i is below the number of addresses.
func address(i int) string {
	user := fmt.Sprintf("user%07d@corp.example", i/addressesPerObject)
	if i%addressesPerObject == 0 {
		return user
	}
	return "first.last." + user
}

// unknown returns an address without an owner. The milters in C know it by its first letter.
func unknown(i int) string { return fmt.Sprintf("x%07d@corp.example", i) }

// directoryInfo is what a client of the simulated directory needs.
type directoryInfo struct{ URL, BindDN, Password, CA string }

// serveDirectory serves a directory with so many objects until standard input ends. Each line of
// input is a number of objects to change; it is answered by a line.
func serveDirectory(objects string) error {
	n, err := strconv.Atoi(objects)
	if err != nil {
		return err
	}
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	guids := make([]adsim.GUID, 0, n)
	for i := range n {
		mail := address(i * addressesPerObject)
		guid, err := d.Add(adsim.User, fmt.Sprintf("CN=user%07d,CN=Users,%s", i, d.BaseDN()), adsim.Attrs{
			"mail": {mail}, "proxyAddresses": {"SMTP:" + mail, "smtp:" + address(i*addressesPerObject+1)}})
		if err != nil {
			return err
		}
		guids = append(guids, guid)
	}
	server, err := adsim.Start(d, adsim.ServerConfig{})
	if err != nil {
		return err
	}
	defer server.Close()
	out := json.NewEncoder(os.Stdout)
	err = out.Encode(directoryInfo{URL: server.URL(), BindDN: server.BindDN(), Password: server.Password(),
		CA: string(server.CA())})
	if err != nil {
		return err
	}
	next := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		changes, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		for range changes {
			err := d.Modify(guids[next%n],
				adsim.AddValues("proxyAddresses", fmt.Sprintf("smtp:new%d@corp.example", next)))
			if err != nil {
				return err
			}
			next++
		}
		if err := out.Encode(next); err != nil {
			return err
		}
	}
	return nil
}

// directoryProcess is this program in directoryMode.
type directoryProcess struct {
	directoryInfo
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startDirectory(ctx context.Context, objects int, dir string) (*directoryProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &directoryProcess{cmd: exec.CommandContext(ctx, self, directoryMode, strconv.Itoa(objects))}
	p.cmd.Dir, p.cmd.Stderr = dir, os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.out.Decode(&p.directoryInfo); err != nil {
		return nil, errors.Join(fmt.Errorf("simulated directory: %w", err), p.close())
	}
	return p, nil
}

// change adds an address to so many objects.
func (p *directoryProcess) change(n int) error {
	if _, err := fmt.Fprintln(p.in, n); err != nil {
		return err
	}
	var done int
	return p.out.Decode(&done)
}

// close ends the process. It may be called more than once.
func (p *directoryProcess) close() error {
	if p.cmd == nil {
		return nil
	}
	p.in.Close()
	err := p.cmd.Wait()
	p.cmd = nil
	return err
}
