package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/logging"
)

// fields has all keys of the file.
func (c *Config) fields() field {
	return keys(fields{
		"listen":           oneOrMore(&c.Listen, "listeners", parseListener),
		"listen_socketmap": listeners(&c.ListenSocketmap),
		"listen_allow":     unique(&c.ListenAllow, "networks", parseNetwork),
		"socket": keys(fields{
			"group": scalar(&c.Socket.Group, verbatim),
			"mode":  scalar(&c.Socket.Mode, parseMode),
		}),
		"control": scalar(&c.Control, parseUnix),
		"metrics": orNull(scalar(&c.Metrics, parseMetrics)),
		"page": keys(fields{
			"listen": orNull(scalar(&c.Page.Listen, parsePage)),
			"serve":  choice(&c.Page.Serve, Loopback, Always, Never),
			"tokens": scalar(&c.Page.Tokens, parseOptionalPath),
			"hosts":  unique(&c.Page.Hosts, "host names", parseHostName),
		}),
		"store": keys(fields{
			"dir":                 scalar(&c.Store.Dir, parsePath),
			"encryption_key_file": scalar(&c.Store.KeyFile, parseOptionalPath),
			"min_free":            size(&c.Store.MinFree),
			"rebuild":             choice(&c.Store.Rebuild, RebuildAuto, RebuildNever),
		}),

		"domains":     domains(c.Domains),
		"directories": directories(&c.Directories),
		"publish":     publish(&c.Publish),
		"nats":        natsServer(&c.NATS),

		"always_accept":  unique(&c.AlwaysAccept, "local parts", parseLocal),
		"removal_grace":  duration(&c.RemovalGrace, true),
		"late_after":     duration(&c.LateAfter, false),
		"stale_after":    duration(&c.StaleAfter, false),
		"when_stale":     choice(&c.WhenStale, Tempfail, Accept, Refuse),
		"when_not_ready": choice(&c.WhenNotReady, Tempfail, Accept),

		"limits": keys(fields{
			"connections": integer(&c.Limits.Connections, 1, 1_000_000),
			"idle":        duration(&c.Limits.Idle, false),
		}),
		"journal": keys(fields{"keep": duration(&c.Journal.Keep, false)}),
		"log":     c.Log.fields(),

		"canaries": keys(fields{
			"accept": unique(&c.Canaries.Accept, "addresses", parseAddress),
			"refuse": unique(&c.Canaries.Refuse, "addresses", parseAddress),
		}),
		"accept":               unique(&c.Accept, "addresses", parseAccepted),
		"accept_files":         unique(&c.AcceptFiles, "files", parsePath),
		"accept_files_max_age": duration(&c.AcceptFilesMaxAge, true),
		"accept_patterns":      unique(&c.AcceptPatterns, "patterns", parsePattern),
		"refuse":               unique(&c.Refuse, "addresses", parseRefused),
		"domain_aliases":       domainAliases(&c.DomainAliases),
		"inside":               keys(fields{"networks": unique(&c.Inside.Networks, "networks", parseInside)}),
		"recipient_delimiter":  scalar(&c.RecipientDelimiter, parseDelimiters),
		"strip_prefixes":       unique(&c.StripPrefixes, "prefixes", parseStripPrefix),
		"export": keys(fields{
			"file":    scalar(&c.Export.File, parseOptionalPath),
			"format":  choice(&c.Export.Format, "postmap", "text", "json"),
			"command": words(&c.Export.Command),
			"every":   duration(&c.Export.Every, false),
			"timeout": duration(&c.Export.Timeout, false),
		}, "file"),
		"confirm": keys(fields{
			"enabled":    onOff(&c.Confirm.Enabled),
			"timeout":    duration(&c.Confirm.Timeout, false),
			"per_second": between(&c.Confirm.PerSecond, 0.1, 10_000),
		}),
		"harvest": c.Harvest.fields(),
		"nat64":   unique(&c.NAT64, "networks", parseNAT64),
		"exempt": keys(fields{
			"networks":      unique(&c.Exempt.Networks, "networks", parseClients),
			"authenticated": onOff(&c.Exempt.Authenticated),
		}),
	}, "domains", "directories")
}

// fields has the keys of harvest. With the key harvest, the limit is enforced unless mode says otherwise.
func (h *Harvest) fields() field {
	all := keys(fields{
		"mode":    choice(&h.Mode, Enforce, Report),
		"unknown": integer(&h.Unknown, 0, 1_000_000),
		"ratio":   between(&h.Ratio, 0, 1),
		"window":  duration(&h.Window, false),
		"penalty": duration(&h.Penalty, false),
		"networks": keys(fields{
			"ipv4":      integer(&h.IPv4, 8, 32),
			"ipv6":      integer(&h.IPv6, 16, 128),
			"ipv6_site": integer(&h.IPv6Site, 0, 128),
		}),
		"reply": wordFlag(&h.Tempfail, "hangup", "tempfail"),
		"scope": wordFlag(&h.All, "unknown", "all"),
	})
	return func(v value) {
		h.Mode = Enforce
		all(v)
	}
}

func (l *Log) fields() field {
	return keys(fields{
		"format":    choice(&l.Format, "text", "json"),
		"level":     choice(&l.Level, "debug", "info", "warn", "error"),
		"syslog":    scalar(&l.Syslog, orEmpty(parseFacility)),
		"addresses": wordFlag(&l.HashAddresses, "full", "hash"),
	})
}

func parseFacility(text string) (string, error) {
	if !logging.IsFacility(text) {
		return "", fmt.Errorf("expected a syslog facility such as mail, daemon or local0, or \"\" for none, got %s",
			quoted(text))
	}
	return text, nil
}

// atLeastOne reads a non-empty list of different texts.
func atLeastOne[T comparable](target *[]T, what string, parse func(string) (T, error)) field {
	many := unique(target, what, parse)
	return func(v value) {
		many(v)
		if v.node.kind == list && len(v.node.items) == 0 {
			v.fail("expected %s, got an empty list", what)
		}
	}
}

// oneOrMore is atLeastOne, but accepts a single item without brackets.
func oneOrMore[T comparable](target *[]T, what string, parse func(string) (T, error)) field {
	many := atLeastOne(target, what, parse)
	return func(v value) {
		if v.node.kind == list {
			many(v)
			return
		}
		if v.node.kind != stringKind {
			v.expected("a text, or a list of " + what + " in brackets")
			return
		}
		var one T
		before := len(v.errs)
		scalar(&one, parse)(v)
		if len(v.errs) == before {
			*target = []T{one}
		}
	}
}

// words reads a command: a list of texts, of which the first names the program. No shell reads
// them.
func words(target *[]string) field {
	return func(v value) {
		*target = nil
		items("words, the program first,", func(v value) {
			if text, ok := v.text("a word of a command in quotes"); ok {
				*target = append(*target, text)
			}
		})(v)
		if len(*target) > 0 && (*target)[0] == "" {
			v.fail("the name of the program is empty")
		}
	}
}

// listeners reads one listener or a list of them, which may be empty. So may a single text.
func listeners(target *[]Endpoint) field {
	return func(v value) {
		if v.node.kind == list && len(v.node.items) == 0 || v.node.kind == stringKind && v.node.source == "" {
			*target = nil
			return
		}
		oneOrMore(target, "listeners", parseListener)(v)
	}
}

// orNull treats a key without a value as an empty text.
func orNull(read field) field {
	return func(v value) {
		if v.node.kind == null {
			v.node = &node{kind: stringKind, position: v.node.position}
		}
		read(v)
	}
}

// domains reads a mapping of mail domains to modes.
func domains(target map[string]Mode) field {
	return func(v value) {
		if v.node.kind != mapping {
			v.expected("domains and their modes, such as \"example.com: enforce\"")
			return
		}
		v.eachDomain(parseDomain, func(domain string, of value) {
			var mode Mode
			choice(&mode, Enforce, Report, Pass)(of)
			target[domain] = mode
		})
		if len(v.node.entries) == 0 {
			v.fail("expected at least one domain, such as \"example.com: enforce\"")
		}
	}
}

// eachDomain visits the entries of a mapping whose keys are domains.
func (v value) eachDomain(parse func(string) (string, error), visit func(domain string, of value)) {
	lines := map[string]int{}
	for _, e := range v.node.entries {
		name := value{v.reader, v.path, e.key}
		source, ok := name.text("a domain in quotes")
		if !ok {
			continue
		}
		domain, err := parse(source)
		if before, after, spaced := strings.Cut(source, " "); err != nil && spaced && e.value.kind == null {
			if _, invalid := parse(before); invalid == nil {
				err = fmt.Errorf("no colon after %s; write %q", quoted(before),
					before+": "+strings.TrimLeft(after, " "))
			}
		}
		if err != nil {
			name.fail("%v", err)
			continue
		}
		name.checkHost(domain)
		if line, twice := lines[domain]; twice {
			name.fail("duplicate %s; the first is in line %d", quoted(source), line)
			continue
		}
		lines[domain] = e.key.line
		path := fmt.Sprintf("%s[%q]", v.path, domain)
		v.at[path] = e.key.position
		visit(domain, value{v.reader, path, e.value})
	}
}

// checkHost warns of a canonical domain, or ".domain", that cannot exist in DNS.
func (v value) checkHost(domain string) {
	if err := address.CheckHost(strings.TrimPrefix(domain, ".")); err != nil {
		v.warnAt(v.node.position, "%s: %s can never match: %v", v.path, quoted(v.node.source), err)
	}
}

// parseDomain reads a domain, or ".domain" for all of its sub-domains.
func parseDomain(text string) (string, error) {
	if strings.ContainsAny(text, "*@") {
		bare := strings.TrimLeft(text[strings.LastIndexByte(text, '@')+1:], "*.")
		if _, err := address.ParseDomain(bare); err != nil {
			bare = "example.com"
		}
		return "", fmt.Errorf("expected a domain such as %q, or %q for all its sub-domains, got %s", bare, "."+bare,
			quoted(text))
	}
	name, sub := strings.CutPrefix(text, ".")
	domain, err := address.ParseDomain(name)
	if err != nil || sub && strings.HasPrefix(domain, "[") {
		return "", fmt.Errorf("expected a domain such as \"example.com\", or \".example.com\" for all its "+
			"sub-domains, got %s", quoted(text))
	}
	if sub {
		domain = "." + domain
	}
	return domain, nil
}

// parseAddress reads a mailbox, local part and domain.
func parseAddress(text string) (address.Address, error) {
	a, err := address.Parse(text)
	if err != nil {
		return a, fmt.Errorf("expected an address such as ceo@example.com, got %s", quoted(text))
	}
	return a, nil
}

// parseLocal reads a local part, without a domain.
func parseLocal(text string) (string, error) {
	a, err := address.Parse(text + "@local.invalid")
	if err != nil || strings.Contains(text, "@") {
		return "", fmt.Errorf("expected a local part, the part of an address before the @, got %s", quoted(text))
	}
	return a.Local(), nil
}

// parseMode reads permissions in octal. Execute and special bits have no meaning on a
// socket and are errors.
func parseMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(text, 8, 16)
	if err != nil || len(text) < 3 || len(text) > 4 || n&^0o666 != 0 {
		return 0, fmt.Errorf("expected the mode of a socket in quotes, such as \"0660\", got %s", quoted(text))
	}
	if n&0o600 != 0o600 {
		return 0, errors.New("the owner of a socket needs read and write permission, as in \"0660\"")
	}
	return fs.FileMode(n), nil
}

// verbatim accepts any text.
func verbatim(text string) (string, error) { return text, nil }

// nonEmpty accepts any text that is not blank.
func nonEmpty(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", errors.New("must not be empty")
	}
	return text, nil
}
