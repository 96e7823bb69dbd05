package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/text"
)

// TableHead returns the comment at the beginning of an exported table for Postfix: what it has,
// and how Postfix uses it in place of the daemon. An empty file stands for standard output.
func TableHead(h control.ExportHead, file string) string {
	if file == "" {
		file = "FILE"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The recipients that rcpt-milter %s accepts, as of %s.\n", text.Printable(h.Version),
		h.Time.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "The index is %s: %s, digest %s\n", text.Printable(string(h.State)),
		text.Count(h.Addresses, "address", "addresses"), text.Printable(h.Digest))
	for _, d := range h.Directories {
		fmt.Fprintf(&b, "Directory %s: %s, last read %s\n", text.Printable(d.Name), text.Printable(string(d.State)),
			d.LastSuccess.UTC().Format(time.RFC3339))
	}
	b.WriteString("Domains:")
	for _, domain := range slices.Sorted(maps.Keys(h.Domains)) {
		fmt.Fprintf(&b, " %s (%s)", text.Printable(domain), text.Printable(h.Domains[domain]))
	}
	fmt.Fprintf(&b, "\n\nFor Postfix, in place of the daemon:\n    postmap lmdb:%[1]s\n    postconf -e "+
		"'relay_recipient_maps = lmdb:%[1]s'\n", text.Printable(file))
	b.WriteString("With it Postfix rejects all other recipients, also in relay domains that are not named above.\n")
	for _, line := range h.Unlisted {
		b.WriteString("Accepted by the daemon, and not by this table: " + text.Printable(line) + "\n")
	}
	return b.String()
}

// keptComment returns the comment of a table that keeps the entries of the one before, and why.
func keptComment(why string) string {
	if why == "" {
		return ""
	}
	return "It keeps all entries of the table before it, because " + text.Printable(why) + ".\n"
}
