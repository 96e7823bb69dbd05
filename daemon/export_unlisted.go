package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
)

// unlisted returns what the daemon accepts and the list cannot have, one sentence each.
func (e *exporter) unlisted() []string {
	all := []string{}
	parents := slices.DeleteFunc(slices.Sorted(maps.Keys(e.config.Domains)), func(domain string) bool {
		return !strings.HasPrefix(domain, ".")
	})
	for _, domain := range parents {
		if e.config.Domains[domain] == config.Pass {
			all = append(all, "all recipients in sub-domains of "+domain[1:]+", which are not judged")
		}
	}
	if e.query.Open {
		all = append(append(all, e.openBelow()...), e.notRead()...)
	} else if len(e.config.AlwaysAccept) > 0 {
		for _, domain := range parents {
			if e.config.Domains[domain] != config.Pass {
				all = append(all, fmt.Sprintf("%s (always_accept) in sub-domains of %s without a known address",
					strings.Join(e.config.AlwaysAccept, ", "), domain[1:]))
			}
		}
	}
	for _, pattern := range e.config.AcceptPatterns {
		all = append(all, "what matches "+pattern+" (accept_patterns)")
	}
	if prefixes := e.config.StripPrefixes; len(prefixes) > 0 {
		all = append(all, "addresses with a tag after "+strings.Join(prefixes, ", ")+" (strip_prefixes)")
	}
	if delimiter := e.config.RecipientDelimiter; delimiter != "" {
		all = append(all, "addresses with an extension, unless Postfix has recipient_delimiter = "+delimiter)
	}
	return all
}

// openBelow returns which sub-domains the list cannot open, one sentence each.
func (e *exporter) openBelow() (unlisted []string) {
	for _, domain := range slices.Sorted(maps.Keys(e.config.Domains)) {
		mode := e.config.Domains[domain]
		if mode == config.Pass || !strings.HasPrefix(domain, ".") || e.openSource(domain) != "" {
			continue
		}
		unlisted = append(unlisted, fmt.Sprintf("recipients in sub-domains of %s without a known address (mode %s)",
			domain[1:], mode))
	}
	for _, o := range e.open {
		if strings.HasPrefix(o.name, ".") {
			unlisted = append(unlisted, "recipients in sub-domains of "+o.name[1:]+", of which no address is known")
		}
	}
	return unlisted
}

// notRead returns what the list may lack because of directories that are not ready or stale, one
// sentence each.
func (e *exporter) notRead() (unlisted []string) {
	for _, d := range e.directories {
		switch {
		case trusted(d.State):
		case d.State == control.Stale:
			unlisted = append(unlisted, fmt.Sprintf("what is new in directory %s since %s", d.Name,
				d.LastSuccess.UTC().Format(time.RFC3339)))
		default:
			unlisted = append(unlisted, fmt.Sprintf("recipients of directory %s, which has not been read in full yet",
				d.Name))
		}
	}
	return unlisted
}
