package stream

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"rcpt-milter/store"
)

// Each directory has one stream.
func streamName(dir string) string   { return "RCPT_" + token(dir) }
func allObjects(dir string) string   { return "rcpt." + token(dir) + objectToken + "*" }
func stateSubject(dir string) string { return "rcpt." + token(dir) + ".state" }
func findSubject(dir string) string  { return "rcpt-find." + token(dir) }
func inboxPrefix(name string) string { return "_INBOX." + token(name) }

const (
	objectToken = ".o."

	edgesStream = "RCPTEDGES" // the latest report of each edge of each directory
	leaseBucket = "RCPTLEASE" // which hub publishes a directory
	leaseStream = "KV_" + leaseBucket

	edgesSubjects = "rcpt-edge.>"
)

func objectSubject(dir string, guid store.GUID) string {
	return "rcpt." + token(dir) + objectToken + hex.EncodeToString(guid[:])
}

// leaseSubject returns the subject of the lease of a directory.
func leaseSubject(dir string) string { return "$KV." + leaseBucket + "." + token(dir) }

// edgeSubject returns the subject of the reports of an edge about a directory.
func edgeSubject(dir, edge string) string { return "rcpt-edge." + token(dir) + "." + token(edge) }

// guidOf returns the GUID that the subject of an object message names.
func guidOf(dir, subject string) (guid store.GUID, ok bool) {
	text, found := strings.CutPrefix(subject, "rcpt."+token(dir)+objectToken)
	return guid, found && unhex(guid[:], text) && guid != store.GUID{}
}

// token encodes the name of a directory or host as one token of a subject. Distinct names of directories stay
// distinct, because the dot is the only special character that they may have.
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

// directoryOf returns the name of the directory whose token is text.
func directoryOf(text string) string { return strings.ReplaceAll(text, "=", ".") }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
