package stream

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"rcpt-milter/store"
)

// A directory has one stream.
func streamName(dir string) string   { return "RCPT_" + token(dir) }
func allObjects(dir string) string   { return "rcpt." + token(dir) + objectToken + "*" }
func stateSubject(dir string) string { return "rcpt." + token(dir) + ".state" }
func findSubject(dir string) string  { return "rcpt-find." + token(dir) }
func inboxPrefix(name string) string { return "_INBOX." + token(name) }

const (
	objectToken = ".o."

	edgesStream = "RCPTEDGES" // the last report of each edge of each directory
	leaseBucket = "RCPTLEASE" // which hub publishes a directory
	leaseStream = "KV_" + leaseBucket

	edgesSubjects = "rcpt-edge.>"
)

func objectSubject(dir string, guid store.GUID) string {
	return "rcpt." + token(dir) + objectToken + hex.EncodeToString(guid[:])
}

// leaseSubject is where the lease of a directory is.
func leaseSubject(dir string) string { return "$KV." + leaseBucket + "." + token(dir) }

// edgeSubject is where an edge reports itself.
func edgeSubject(dir, edge string) string { return "rcpt-edge." + token(dir) + "." + token(edge) }

// guidOf reads the object of a subject.
func guidOf(dir, subject string) (guid store.GUID, ok bool) {
	text, found := strings.CutPrefix(subject, "rcpt."+token(dir)+objectToken)
	return guid, found && unhex(guid[:], text) && guid != store.GUID{}
}

// token turns the name of a directory or a host into one token of a subject. Names of directories
// have no other special character than the dot, so they stay different.
func token(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '.':
			return '='
		case r == '*' || r == '>' || r == '=' || r <= ' ' || r > '~' || r == '/' || r == '\\':
			return '_'
		}
		return r
	}, name)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
