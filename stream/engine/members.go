package engine

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"rcpt-milter/stream"
)

// Role determines what a member may do.
type Role = stream.Role

// The roles of members.
const (
	Hub  = stream.HubRole
	Edge = stream.EdgeRole
)

// Member is an enrolled hub or edge.
type Member struct {
	Name        string    `json:"name"`
	Role        Role      `json:"role"`
	Directories []string  `json:"directories"` // names
	Key         string    `json:"key"`         // public nkey
	Added       time.Time `json:"added"`

	Connected bool      `json:"-"` // connected to this node
	Since     time.Time `json:"-"` // time of the connection; zero if not connected
	Remote    string    `json:"-"` // address of the client; empty if not connected
}

// check returns an error unless the member is the one of a name, and Add could have enrolled it. Its
// texts become a part of subjects that it may use.
func (m Member) check(name string) error {
	switch {
	case m.Name != name:
		return fmt.Errorf("%.100q is stored as %.100q", m.Name, name)
	case m.Role != Hub && m.Role != Edge:
		return fmt.Errorf("%s has the unknown role %.100q", name, m.Role)
	case !nkeys.IsValidPublicUserKey(m.Key):
		return fmt.Errorf("%s has no valid key", name)
	}
	return errors.Join(checkName(name), checkDirectories(m.Directories))
}

// same reports whether two members have the same key and rights.
func (m Member) same(o Member) bool {
	return m.Name == o.Name && m.Role == o.Role && m.Key == o.Key && slices.Equal(m.Directories, o.Directories)
}

// members is the list of enrolled hosts. It implements server.Authentication.
type members struct {
	path       string
	disconnect func(id uint64) error
	connected  func(id uint64) bool
	changed    func() // called after a member was enrolled; nil means no callback

	now func() time.Time

	mu     sync.Mutex // guards the fields below
	all    map[string]Member
	conns  map[uint64]conn
	opened map[string]int64     // new connections since the last flood check, by name
	banned map[string]time.Time // end of the ban after a flood, by name
}

// conn is an authenticated connection.
type conn struct {
	name, remote    string
	since           time.Time
	messages, bytes int64 // received at the last flood check
}

// membersFile is the name of the list in the directory of the engine.
const membersFile = "members.json"

func openMembers(dir string, now func() time.Time) (*members, error) {
	m := &members{path: filepath.Join(dir, membersFile), now: now, all: map[string]Member{}, conns: map[uint64]conn{},
		opened: map[string]int64{}, banned: map[string]time.Time{}}
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of hubs and edges: %w", err)
	}
	var list []Member
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&list); err != nil {
		return nil, fmt.Errorf("the list of hubs and edges, %s, is damaged: %w; restore it, or remove it and "+
			"enrol all hosts again", m.path, err)
	}
	for _, one := range list {
		m.all[one.Name] = one
	}
	return m, nil
}

// Check implements server.Authentication. It accepts connections within this process, and members that prove
// possession of their key.
func (m *members) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	remote := c.RemoteAddress()
	if remote != nil && remote.Network() == "pipe" { // net.Pipe exists only within this process
		c.RegisterUser(&server.User{Username: "this daemon"})
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock() // held until the user is registered, so a removal comes either before or after
	member, ok := m.byKey(c.GetOpts().Nkey)
	if !ok || !proves(member.Key, c.GetNonce(), c.GetOpts().Sig) {
		return false
	}
	m.opened[member.Name]++
	if m.now().Before(m.banned[member.Name]) {
		return false
	}
	allowed := stream.Permissions(member.Role, member.Name, member.Directories)
	c.RegisterUser(&server.User{Username: member.Name, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: orNone(allowed.Publish)},
		Subscribe: &server.SubjectPermission{Allow: orNone(allowed.Subscribe)},
	}})
	m.prune()
	at := ""
	if remote != nil {
		at = remote.String()
	}
	m.conns[c.GetID()] = conn{name: member.Name, remote: at, since: time.Now()}
	for _, id := range m.oldest(member.Name) {
		go func() { _ = m.disconnect(id) }() // an error means that the connection is gone
	}
	return true
}

// orNone returns a list that permits nothing if subjects is empty; to the server, a nil list permits
// everything.
func orNone(subjects []string) []string {
	if subjects == nil {
		return []string{}
	}
	return subjects
}

// byKey returns the member with a public key.
func (m *members) byKey(key string) (Member, bool) {
	if key == "" {
		return Member{}, false
	}
	for _, one := range m.all {
		if one.Key == key {
			return one, true
		}
	}
	return Member{}, false
}

// proves reports whether the private key of this public key signed the nonce.
func proves(key string, nonce []byte, signature string) bool {
	decoded, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		if decoded, err = base64.StdEncoding.DecodeString(signature); err != nil {
			return false
		}
	}
	public, err := nkeys.FromPublicKey(key)
	return err == nil && len(nonce) > 0 && public.Verify(nonce, decoded) == nil
}

// prune forgets connections that have ended.
func (m *members) prune() {
	maps.DeleteFunc(m.conns, func(id uint64, _ conn) bool { return !m.connected(id) })
}

// put enrols a member. If that changes the rights of a member, put disconnects it.
func (m *members) put(one Member) error {
	m.mu.Lock()
	old, had := m.all[one.Name]
	m.all[one.Name] = one
	delete(m.banned, one.Name)
	if err := m.save(); err != nil {
		delete(m.all, one.Name)
		if had {
			m.all[one.Name] = old
		}
		m.mu.Unlock()
		return err
	}
	m.mu.Unlock()
	if had && !old.same(one) {
		m.kick(one.Name)
	}
	if m.changed != nil {
		m.changed()
	}
	return nil
}

// remove revokes the rights of a member and disconnects it.
func (m *members) remove(name string) error {
	m.mu.Lock()
	old, had := m.all[name]
	if !had {
		m.mu.Unlock()
		return fmt.Errorf("%s is %w", name, ErrUnknown)
	}
	delete(m.all, name)
	if err := m.save(); err != nil {
		m.all[name] = old
		m.mu.Unlock()
		return err
	}
	m.mu.Unlock()
	m.kick(name)
	return nil
}

// kick disconnects a member.
func (m *members) kick(name string) {
	m.mu.Lock()
	var ids []uint64
	for id, c := range m.conns {
		if c.name == name {
			ids = append(ids, id)
		}
	}
	m.mu.Unlock()
	for _, id := range ids {
		m.disconnect(id) // an error means that the connection is gone
	}
}

// save writes the list to a temporary file and renames it.
func (m *members) save() error {
	data, err := json.MarshalIndent(m.sorted(), "", "  ")
	if err == nil {
		err = writeFile(m.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot write the list of hubs and edges: %w", err)
	}
	return nil
}

func (m *members) sorted() []Member {
	return slices.SortedFunc(maps.Values(m.all), func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
}

// list returns the members with their connections, sorted by name.
func (m *members) list() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prune()
	all := m.sorted()
	for i := range all {
		for _, c := range m.conns {
			if c.name == all[i].Name {
				all[i].Connected, all[i].Since, all[i].Remote = true, c.since, c.remote
			}
		}
	}
	return all
}

// count returns the number of members and the number of connected members.
func (m *members) count() (enrolled, connected int) {
	for _, one := range m.list() {
		if one.Connected {
			connected++
		}
		enrolled++
	}
	return enrolled, connected
}

// writeFile replaces a file atomically. After a crash, the file has either the old or the new content.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
