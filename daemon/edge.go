package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/files"
	"rcpt-milter/stream"
	"rcpt-milter/stream/engine"
)

var _ control.Enroller = backend{}

// errNoEngine reports that enrolment is impossible because this daemon has no engine.
var errNoEngine = errors.New("this daemon has no engine; set nats in its configuration, or run the command at the " +
	"host that has one")

// enrolling returns the engine of this daemon.
func (b backend) enrolling() (*engine.Engine, error) {
	if b.fleet == nil || b.fleet.engine == nil {
		return nil, errNoEngine
	}
	return b.fleet.engine.running()
}

// AddMember enrols a host at the engine.
func (b backend) AddMember(ctx context.Context, q control.MemberQuery) (control.MemberFile, error) {
	e, err := b.enrolling()
	if err != nil {
		return control.MemberFile{}, err
	}
	if len(q.Directories) == 0 {
		for _, d := range b.config.Load().Directories {
			q.Directories = append(q.Directories, d.Name)
		}
	}
	var content []byte
	if q.Role == control.RoleNode {
		content, err = e.AddNode(q.Name)
	} else {
		content, err = e.Add(ctx, q.Name, engine.Role(q.Role), q.Directories)
	}
	return control.MemberFile{Content: string(content)}, err
}

// Members returns the hosts that are enrolled at the engine.
func (b backend) Members(context.Context) ([]control.Member, error) {
	e, err := b.enrolling()
	if err != nil {
		return nil, err
	}
	var all []control.Member
	for _, m := range e.Members() {
		all = append(all, control.Member{Name: m.Name, Role: string(m.Role), Directories: m.Directories,
			Added: control.Time{Time: m.Added}, Connected: m.Connected, Since: control.Time{Time: m.Since},
			Remote: m.Remote})
	}
	return all, nil
}

// RemoveMember revokes the credentials of a host.
func (b backend) RemoveMember(ctx context.Context, name string) error {
	e, err := b.enrolling()
	if err != nil {
		return err
	}
	return e.Remove(ctx, name)
}

// joinTimeout limits the live check of a directory.
const joinTimeout = 20 * time.Second

// maxEnrolmentFile limits the size of an enrolment file, in bytes.
const maxEnrolmentFile = 1 << 20

// Join is the result of checking an enrolment file.
type Join struct {
	engine.Enrolment
	File string
	// Waiting has a reason for each directory that cannot be read yet, for example because no hub has published
	// it.
	Waiting []string
}

// JoinEngine checks an enrolment file. It connects to the engine and, for an edge, reads the state of each
// directory. It changes nothing.
func JoinEngine(ctx context.Context, file string) (Join, error) {
	data, err := files.Read(file, "enrolment", maxEnrolmentFile)
	if err != nil {
		return Join{}, err
	}
	n, err := engine.ParseEnrolment(data)
	if err != nil {
		return Join{}, fmt.Errorf("%s %w", file, err)
	}
	roots, err := authorityOf(file)
	if err != nil {
		return Join{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	client, err := stream.Connect(stream.Config{URLs: n.URLs, CredentialsFile: file, Name: n.Name, Log: log,
		TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: roots, MinVersion: files.MinTLSVersion}, nil }})
	if err != nil {
		return Join{}, err
	}
	defer client.Close()
	if err := waitConnected(ctx, client); err != nil {
		return Join{}, fmt.Errorf("cannot connect to %s: %w", strings.Join(n.URLs, ", "), err)
	}
	j := Join{Enrolment: n, File: file}
	if n.Role != engine.Edge {
		return j, nil
	}
	for _, directory := range n.Directories {
		source, err := client.Source(directory, stream.SourceOptions{Log: log})
		if err == nil {
			_, err = source.Root(ctx)
			source.Close()
		}
		if err != nil {
			j.Waiting = append(j.Waiting, fmt.Sprintf("%s: %v", directory, err))
		}
	}
	return j, nil
}

// waitConnected waits for a connection. If there is none when ctx ends, it returns the reason.
func waitConnected(ctx context.Context, client *stream.Client) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		s := client.Status()
		switch {
		case s.Connected:
			return nil
		case s.LastError != nil:
			return s.LastError
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Configuration returns the configuration lines that the host needs.
func (j Join) Configuration() string {
	var urls []string
	for _, at := range j.URLs {
		urls = append(urls, yamlText(at))
	}
	file := yamlText(j.File)
	stream := func(indent string) string {
		return indent + "stream:\n" +
			indent + "  urls: [" + strings.Join(urls, ", ") + "]\n" +
			indent + "  credentials_file: " + file + "\n" +
			indent + "  tls: {ca_file: " + file + "}\n"
	}
	if j.Role == engine.Hub {
		return "publish:\n" + stream("  ")
	}
	text := "directories:\n"
	for _, name := range j.Directories {
		text += "  - name: " + yamlText(name) + "\n" + stream("    ")
	}
	return text
}

// plainYAML matches texts that need no quotes in YAML.
var plainYAML = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9/._:-]*[A-Za-z0-9]$`)

// yamlText quotes a text for YAML if necessary.
func yamlText(text string) string {
	if plainYAML.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// EnrolmentFile is a new, empty enrolment file. Write fills it.
type EnrolmentFile struct{ f *os.File }

// CreateEnrolment creates a file that only its owner may read. It fails if the file exists.
func CreateEnrolment(path string) (EnrolmentFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return EnrolmentFile{}, fmt.Errorf("cannot write the enrolment file: %w; choose another name", err)
	}
	return EnrolmentFile{f}, nil
}

// Write writes the content and closes the file.
func (e EnrolmentFile) Write(content []byte) error {
	_, err := e.f.Write(content)
	if err == nil {
		err = e.f.Sync()
	}
	if err = errors.Join(err, e.f.Close()); err != nil {
		return fmt.Errorf("cannot write the enrolment file: %w; make room, and run the command again", err)
	}
	return nil
}

// Remove removes the file after a failed enrolment.
func (e EnrolmentFile) Remove() {
	e.f.Close()
	os.Remove(e.f.Name()) // an existing file would block the next attempt
}

// authorityOf returns the certificates in an enrolment file. It returns an error if all of them have expired.
func authorityOf(file string) (*x509.CertPool, error) {
	all, err := files.Certificates(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, cert := range all {
		pool.AddCert(cert)
	}
	if last := lastExpiry(all); time.Now().After(last) {
		return nil, fmt.Errorf("%s: the certificate of the authority expired on %s; get a new file with "+
			"\"rcpt-milter edge add\"", file, last.UTC().Format(time.DateOnly))
	}
	return pool, nil
}
