package adsim

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// GUID is an objectGUID in wire order.
type GUID [16]byte

// String returns the usual printed form, with the first three groups little-endian.
func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[:4]),
		binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// Errors of the model, for tests with random operations.
var (
	ErrNoObject   = errors.New("no such object")
	ErrExists     = errors.New("an object with this name already exists")
	ErrNotEmpty   = errors.New("the object has children")
	ErrNotDeleted = errors.New("the object is not deleted, or cannot be restored")
	ErrName       = errors.New("invalid name")
)

// Attrs are the attributes of an object, by name in any case.
type Attrs map[string][]string

// DirectoryConfig describes the domain of a simulated directory.
type DirectoryConfig struct {
	Domain     string           // DNS name of the domain; default corp.example
	Host       string           // first label of the controller's DNS name; default dc1
	RecycleBin bool             // a deleted object keeps its attributes until [Directory.Recycle]
	Clock      func() time.Time // for whenChanged and currentTime; default time.Now
	FirstUSN   uint64           // highestCommittedUSN of the new directory; default 12000
	// OriginTimes makes a replicated change set whenChanged to the time of the original change, as
	// Samba does; otherwise it is the time of replication, as on Windows.
	OriginTimes bool
	NewGUID     func() GUID // for reproducible tests; default random
}

// Directory is the database of one domain controller. Its objects are in one slice in the order of
// their creation, which is also the order of every search. A page cursor is an index into the
// slice, so a million objects stay cheap.
type Directory struct {
	config DirectoryConfig

	mu          sync.RWMutex // guards the fields below; see lock
	version     uint64       // counts the calls of lock
	entries     []entry
	byGUID      map[GUID]int32
	byName      map[childKey]int32
	usn         uint64 // highestCommittedUSN
	serial      uint32 // of the last write of a property; Restore does not reset it
	invocation  GUID
	recycleBin  bool
	hidden      map[string]bool          // attributes that no client may read, lower case
	hiddenOf    map[GUID]map[string]bool // the same for single objects
	hideDeleted bool                     // no right to see deleted objects
	watchers    []*watcher
	domains     bool // there are child domains

	root, configRoot, users, deletedObjects, lostAndFound, dsa int32 // indices that never change
}

// entry is one object. Attribute slices are never changed in place, so a copy of the entries is a
// snapshot.
type entry struct {
	guid                 GUID
	kind                 Kind
	deleted              bool
	recycled             bool
	purged               bool  // removed for good: the slot is empty
	parent               int32 // -1: root of a naming context
	lastParent           int32 // the parent of a deleted object before its deletion
	children             int32 // number of direct children
	name                 string
	created, usn         uint64 // USNs
	createdAt, changedAt int64  // Unix times
	attrs                []attr
	originalName         string  // of a deleted object
	place                version // of name, parent and deletion
	deletion             deletion
}

// attr is one stored attribute; its key is the lower-case name.
type attr struct {
	key     string
	name    string
	values  []string // none: removed, which must still replicate
	written version
}

// childKey identifies an object by its parent and name.
type childKey struct {
	parent int32
	rdn    string // folded, with its type: "cn=anna berg"
}

// NewDirectory returns a domain with the default objects: the containers Users, Computers, Deleted
// Objects and Microsoft Exchange System Objects, and a configuration naming context with the
// controller and the domain.
func NewDirectory(config DirectoryConfig) *Directory {
	if config.Domain == "" {
		config.Domain = "corp.example"
	}
	if config.Host == "" {
		config.Host = "dc1"
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.FirstUSN == 0 {
		config.FirstUSN = 12000
	}
	if config.NewGUID == nil {
		config.NewGUID = newGUID
	}
	d := &Directory{
		config: config, recycleBin: config.RecycleBin, usn: config.FirstUSN,
		byGUID: map[GUID]int32{}, byName: map[childKey]int32{}, hidden: map[string]bool{},
		invocation: config.NewGUID(),
	}
	d.root = d.insert(domainRoot, -1, "DC="+strings.ReplaceAll(config.Domain, ".", ",DC="), nil)
	d.configRoot = d.insert(configurationRoot, -1, "CN=Configuration,"+d.entries[d.root].name, nil)
	d.users = d.insert(Container, d.root, "Users", nil)
	d.insert(Container, d.root, "Computers", nil)
	d.insert(Container, d.root, "Microsoft Exchange System Objects", nil)
	var at int32
	d.deletedObjects = d.insert(Container, d.root, "Deleted Objects", nil)
	d.entries[d.deletedObjects].deleted = true // as in Active Directory: it has isDeleted itself
	d.lostAndFound = d.insert(lostAndFound, d.root, "LostAndFound", nil)
	for _, name := range []string{"Services", "Schema", "Partitions"} {
		at = d.insert(Container, d.configRoot, name, nil)
	}
	netBIOS, _, _ := strings.Cut(strings.ToUpper(config.Domain), ".")
	d.insert(CrossRef, at, netBIOS, sortedAttrs(Attrs{"nCName": {d.entries[d.root].name}, "dnsRoot": {config.Domain},
		"nETBIOSName": {netBIOS}, "systemFlags": {"3"}}))
	at = d.configRoot
	for _, name := range []string{"Sites", "Default-First-Site-Name", "Servers", strings.ToUpper(config.Host)} {
		at = d.insert(Container, at, name, nil)
	}
	d.dsa = d.insert(dsaSettings, at, "NTDS Settings", nil)
	return d
}

// insert adds an object. The caller holds the lock, or has not shared d yet.
func (d *Directory) insert(kind Kind, parent int32, name string, attrs []attr) int32 {
	d.usn++
	now := d.config.Clock().Unix()
	i := int32(len(d.entries))
	d.entries = append(d.entries, entry{
		guid: d.config.NewGUID(), kind: kind, parent: parent, lastParent: -1, name: name,
		created: d.usn, usn: d.usn, createdAt: now, changedAt: now, attrs: attrs,
	})
	e := &d.entries[i]
	e.place = d.next(version{})
	for n := range attrs {
		attrs[n].written = e.place
	}
	d.byGUID[e.guid] = i
	d.byName[e.key()] = i
	if parent >= 0 {
		d.entries[parent].children++
	}
	d.notifyWatchers(i)
	return i
}

// newGUID returns a random GUID (RFC 9562 version 4).
func newGUID() (g GUID) {
	rand.Read(g[:]) // never fails
	g[7] = g[7]&0x0f | 0x40
	g[8] = g[8]&0x3f | 0x80
	return g
}

func (e *entry) key() childKey {
	return childKey{e.parent, foldValue(e.kind.info().naming + "=" + e.name)}
}

// recordWrite records a change of an object under the next USN.
func (d *Directory) recordWrite(e *entry) {
	d.usn++
	e.usn = d.usn
	e.changedAt = d.config.Clock().Unix()
	d.notifyWatchers(d.byGUID[e.guid])
}

// find returns the slot of an object.
func (d *Directory) find(guid GUID) (int32, error) {
	i, ok := d.byGUID[guid]
	if !ok || d.entries[i].purged {
		return 0, fmt.Errorf("%w: %s", ErrNoObject, guid)
	}
	return i, nil
}

// findLive is find for objects that are not deleted.
func (d *Directory) findLive(guid GUID) (int32, error) {
	i, err := d.find(guid)
	if err == nil && d.entries[i].deleted {
		return 0, fmt.Errorf("%w: %s is deleted", ErrNoObject, guid)
	}
	return i, err
}

// dn returns the current distinguished name of an object.
func (d *Directory) dn(i int32) string {
	var b strings.Builder
	for ; ; i = d.entries[i].parent {
		e := &d.entries[i]
		if e.parent < 0 { // the root of a naming context holds its whole name
			b.WriteString(e.name)
			return b.String()
		}
		b.WriteString(e.kind.info().naming + "=" + escapeRDN(e.name) + ",")
	}
}

// within reports whether i is base or below it.
func (d *Directory) within(i, base int32) bool {
	for ; i >= 0; i = d.entries[i].parent {
		if i == base {
			return true
		}
	}
	return false
}

// BaseDN returns the DN of the domain's naming context, for example DC=corp,DC=example.
func (d *Directory) BaseDN() string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.entries[d.root].name
}

// ConfigurationDN returns the DN of the configuration naming context.
func (d *Directory) ConfigurationDN() string { return "CN=Configuration," + d.BaseDN() }

// HostName returns the DNS name of the controller, for example dc1.corp.example.
func (d *Directory) HostName() string { return d.config.Host + "." + d.config.Domain }

// HighestUSN returns the current highestCommittedUSN.
func (d *Directory) HighestUSN() uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.usn
}

// lock takes the directory for a change.
func (d *Directory) lock() {
	d.mu.Lock()
	d.version++
}
