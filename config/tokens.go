package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"rcpt-milter/internal/files"
	"rcpt-milter/internal/text"
)

// Limits of a token file.
const (
	maxTokenFile    = 256 << 10 // bytes
	maxTokens       = 1000
	maxTokenDomains = 100 // of one token
	maxToken        = 512 // characters
	maxTokenErrors  = 10  // that are reported
)

// The shortest tokens that can have 128 random bits: digits, hexadecimal digits, and other characters,
// such as those of Base64.
const (
	minDigitToken = 39
	minHexToken   = 32
	minToken      = 22

	minDistinct = 8 // different characters; random tokens have more, and placeholders fewer
)

// allDomains stands for all domains in a token file.
const allDomains = "*"

const makeToken = "make one with: openssl rand -hex 32"

// Token is one token of the status page. It is a hash, so a memory image has no token.
type Token struct {
	Sum [sha256.Size]byte // SHA-256 of the token
	All bool              // it gives access to everything
	// Domains are the canonical domains that it gives access to; ".example.org" means all sub-domains of
	// example.org. It is empty if All is set, and only then.
	Domains []string
	Line    int // in the file, from 1
}

// ReadTokens reads a token file. Errors name each wrong line, and no part of a token.
func ReadTokens(path string) ([]Token, error) {
	data, err := files.Read(path, "token", maxTokenFile)
	if err != nil {
		return nil, err
	}
	tokens, err := ParseTokens(data)
	if err != nil {
		return nil, fmt.Errorf("the token file %s: %w", path, err)
	}
	return tokens, nil
}

// ParseTokens parses a token file: on each line a token, then the domains that it gives access to,
// separated by spaces or tabs. "*" means everything, and so does a token without domains, unless the
// file has a token with some. Empty lines and lines that begin with # do not count. The error names
// the first wrong lines. A file without a token is an error.
func ParseTokens(data []byte) ([]Token, error) {
	p := tokenParser{seen: map[[sha256.Size]byte]int{}}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if len(p.seen) == maxTokens {
			p.fail(number, "more than %d tokens", maxTokens)
			break
		}
		p.line(number, line)
		if len(p.problems) == maxTokenErrors {
			break
		}
	}
	p.checkBare()
	switch {
	case len(p.problems) > 0:
		return nil, errors.New(strings.Join(p.problems, "; "))
	case len(p.tokens) == 0:
		return nil, errors.New("no token; " + makeToken)
	}
	return p.tokens, nil
}

// tokenParser collects the tokens of a file.
type tokenParser struct {
	tokens   []Token
	seen     map[[sha256.Size]byte]int // lines of the tokens
	bare     []int                     // lines of tokens without domains
	problems []string
}

func (p *tokenParser) fail(line int, format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
}

// line parses a line that is not empty.
func (p *tokenParser) line(number int, line string) {
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if problem := tokenProblem(fields[0]); problem != "" {
		p.fail(number, "%s; %s", problem, makeToken)
		return
	}
	token := Token{Sum: sha256.Sum256([]byte(fields[0])), Line: number}
	if first, twice := p.seen[token.Sum]; twice {
		p.fail(number, "the token is also in line %d; every line needs a token of its own", first)
		return
	}
	p.seen[token.Sum] = number
	domains := fields[1:]
	switch {
	case len(domains) == 0:
		token.All = true
		p.bare = append(p.bare, number)
	case len(domains) == 1 && domains[0] == allDomains:
		token.All = true
	case len(domains) > maxTokenDomains:
		p.fail(number, "more than %d domains", maxTokenDomains)
		return
	default:
		var err error
		if token.Domains, err = tokenDomains(domains); err != nil {
			p.fail(number, "%v", err)
			return
		}
	}
	p.tokens = append(p.tokens, token)
}

// tokenDomains returns the canonical domains of a line. Errors do not quote them: one may be a part of
// a token that a space divides.
func tokenDomains(words []string) ([]string, error) {
	var all []string
	seen := map[string]bool{}
	for i, word := range words {
		if word == allDomains {
			return nil, errors.New(`"*" is not alone; write it without domains, or the domains without it`)
		}
		domain, err := parseDomain(word)
		if err != nil || !utf8.ValidString(word) || strings.ContainsFunc(domain, notInHostName) {
			return nil, fmt.Errorf(`domain %d is not a domain such as "example.com", or ".example.com" for all of its `+
				"sub-domains", i+1)
		}
		if seen[domain] {
			return nil, fmt.Errorf("domain %d is there twice", i+1)
		}
		seen[domain] = true
		all = append(all, domain)
	}
	return all, nil
}

// notInHostName reports whether a character is not allowed in canonical domains of tokens: letters,
// digits, hyphens (RFC 1123 section 2.1), and the underscore, which some domains have.
func notInHostName(r rune) bool {
	return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.')
}

// checkBare rejects tokens without domains beside tokens with some: a forgotten domain must not open
// all others.
func (p *tokenParser) checkBare() {
	if len(p.bare) == len(p.seen) {
		return
	}
	for _, line := range p.bare {
		p.fail(line, `the token has no domains, and others of this file have; name its domains, or "*" for all`)
		if len(p.problems) >= maxTokenErrors {
			return
		}
	}
}

// tokenProblem says what is wrong with a token, without any part of it.
func tokenProblem(token string) string {
	distinct := map[rune]bool{}
	digits, hex := true, true
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "the token has a character that is not printable ASCII"
		}
		distinct[r] = true
		digits = digits && '0' <= r && r <= '9'
		hex = hex && strings.ContainsRune("0123456789abcdefABCDEF", r)
	}
	least := minToken
	switch {
	case digits:
		least = minDigitToken
	case hex:
		least = minHexToken
	}
	switch {
	case len(token) < least:
		return fmt.Sprintf("the token has %s, and needs %d for 128 bits",
			text.Count(len(token), "character", "characters"), least)
	case len(token) > maxToken:
		return fmt.Sprintf("the token has more than %d characters", maxToken)
	case len(distinct) < minDistinct:
		return "the token repeats a few characters, so it is not random"
	}
	return ""
}

// warnTokenDomains warns of domains of tokens that the page has nothing about.
func (c *Config) warnTokenDomains(w *reader, tokens []Token) {
	for _, token := range tokens {
		for i, domain := range token.Domains {
			if !c.hasEntryIn(domain) {
				w.failAt(w.first("page.tokens"), "page.tokens: %s, line %d: domain %d is not in domains, so the "+
					"token shows no recipients of it", c.Page.Tokens, token.Line, i+1)
			}
		}
	}
}

// hasEntryIn reports whether domains has an entry for a domain, or in a ".parent".
func (c *Config) hasEntryIn(domain string) bool {
	if c.HasEntry(domain) {
		return true
	}
	for configured := range c.Domains {
		if domain[0] == '.' && strings.HasSuffix(configured, domain) {
			return true
		}
	}
	return false
}
