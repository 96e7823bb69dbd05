package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

// nameSyntax is the syntax of the names of members, which become tokens of NATS subjects. directorySyntax is
// that of the names of directories.
var (
	nameSyntax      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)
	directorySyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// checkName returns an error unless text is a valid name of a member.
func checkName(name string) error {
	if !nameSyntax.MatchString(name) {
		return fmt.Errorf(
			"%q is not a valid name; use letters, digits, dashes and underscores, 63 at most, such as mx1", name)
	}
	return nil
}

// checkDirectories returns an error unless all texts are valid names of directories.
func checkDirectories(directories []string) error {
	if len(directories) == 0 {
		return errors.New("this daemon has no directory to use as default; name those of the host with --directory")
	}
	for _, name := range directories {
		if !directorySyntax.MatchString(name) {
			return fmt.Errorf("%q is not the name of a directory; use the name in the configuration of the hub", name)
		}
	}
	return nil
}

// checkURLs returns an error unless all texts are URLs of engines. An engine always uses TLS.
func checkURLs(urls []string) error {
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "tls" || u.Hostname() == "" || u.Port() == "" || text != "tls://"+u.Host {
			return fmt.Errorf("%q is not a URL of an engine; expected tls://host:port", text)
		}
	}
	if len(urls) == 0 {
		return errors.New("there is no URL of an engine")
	}
	return nil
}

// Enrolment is the content of an enrolment file, which a hub or an edge needs to connect.
type Enrolment struct {
	Name        string
	Role        Role
	URLs        []string
	Directories []string
	Seed        string // seed of the nkey; secret
	CA          []byte // PEM
}

// Add enrols a hub or an edge. If it is already enrolled, Add replaces its credentials and rights. It returns
// the enrolment file for the host.
func (e *Engine) Add(ctx context.Context, name string, role Role, directories []string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if role != Hub && role != Edge {
		return nil, fmt.Errorf("%q is not a role; use %s or %s", role, Hub, Edge)
	}
	if err := checkDirectories(directories); err != nil {
		return nil, err
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	key, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, err
	}
	member := Member{Name: name, Role: role, Directories: slices.Clone(directories), Key: key,
		Added: e.config.Now().UTC()}
	if err := e.publish(ctx, member); err != nil {
		return nil, err
	}
	if err := e.members.put(member); err != nil {
		return nil, err
	}
	return Enrolment{Name: name, Role: role, URLs: e.config.URLs, Directories: directories, Seed: string(seed),
		CA: e.authority.pem()}.File(), nil
}

// AddNode returns the file that another node of the cluster needs: its certificate and key, and the authority
// certificate. The engine must have its own authority.
func (e *Engine) AddNode(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if ca, _ := e.authority.signer(); ca == nil {
		return nil, errors.New("this engine has no authority of its own; issue the certificate of the node as you " +
			"issued that of this one, or run the command at the node that has the authority")
	}
	if e.config.Cluster == nil {
		return nil, errors.New("this engine is not a node of a cluster; set nats.cluster first")
	}
	cert, key, err := e.authority.issue(name)
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf("# rcpt-milter: certificate, key and authority of node %s. Keep this file secret.\n", name)
	return slices.Concat([]byte(head), cert, key, e.authority.pem()), nil
}

// Members returns the enrolled hubs and edges, sorted by name.
func (e *Engine) Members() []Member { return e.members.list() }

// Remove revokes the credentials of a member and disconnects it. It returns ErrUnknown if there is no such
// member.
func (e *Engine) Remove(ctx context.Context, name string) error {
	if err := e.withdraw(ctx, name); err != nil {
		return err
	}
	// In a cluster, the bucket may already have notified this node of the change.
	if err := e.members.remove(name); !errors.Is(err, ErrUnknown) {
		return err
	}
	return nil
}

// File returns the enrolment file. The file serves as NATS credentials, as a CA file and as a description of
// the member.
func (n Enrolment) File() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# rcpt-milter enrolment. Keep this file secret: it lets its holder connect to the engine.\n"+
		"# name: %s\n# role: %s\n# urls: %s\n# directories: %s\n", n.Name, n.Role, strings.Join(n.URLs, " "),
		strings.Join(n.Directories, " "))
	fmt.Fprintf(&b, "-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n", n.Seed)
	b.Write(n.CA)
	return b.Bytes()
}

// maxEnrolment limits the size of an enrolment file, in bytes.
const maxEnrolment = 1 << 20

// ParseEnrolment parses an enrolment file.
func ParseEnrolment(data []byte) (Enrolment, error) {
	if len(data) > maxEnrolment {
		return Enrolment{}, errors.New("is larger than an enrolment file; use the file of \"rcpt-milter edge add\"")
	}
	n := Enrolment{CA: certificates(data)}
	credentials := false // ignore certificates, whose lines may look like a seed
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "-----") {
			credentials = strings.Contains(line, "BEGIN USER NKEY SEED")
		} else if credentials && line != "" {
			n.Seed = line
		}
		key, value, _ := strings.Cut(strings.TrimPrefix(line, "# "), ": ")
		if !strings.HasPrefix(line, "# ") {
			continue
		}
		switch key {
		case "name":
			n.Name = value
		case "role":
			n.Role = Role(value)
		case "urls":
			n.URLs = strings.Fields(value)
		case "directories":
			n.Directories = strings.Fields(value)
		}
	}
	return n, n.check()
}

// check returns an error if something that a host needs is missing.
func (n Enrolment) check() error {
	_, err := nkeys.FromSeed([]byte(n.Seed))
	switch {
	case err != nil:
		return errors.New("has no usable credentials; use the file of \"rcpt-milter edge add\"")
	case checkName(n.Name) != nil || n.Role != Hub && n.Role != Edge || checkURLs(n.URLs) != nil ||
		checkDirectories(n.Directories) != nil:
		return errors.New("has no valid name, role, urls or directories; use the file of \"rcpt-milter edge add\" " +
			"unchanged")
	case len(n.CA) == 0:
		return errors.New("lacks the certificate of the authority; use the file of \"rcpt-milter edge add\" unchanged")
	}
	return nil
}
