package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"rcpt-milter/control"
)

// Token is one token that gives access to the page.
type Token struct {
	Sum   [sha256.Size]byte // SHA-256 of the token
	All   bool              // it gives access to everything; otherwise to Scope
	Scope control.Scope
}

// access is what one request may see.
type access struct {
	token bool // it has a token
	all   bool
	scope control.Scope // if not all
}

// accessKey is the key of the access in the context of a request.
type accessKey struct{}

// accessOf returns the access of a request. A request without one sees nothing.
func accessOf(r *http.Request) access {
	a, _ := r.Context().Value(accessKey{}).(access)
	return a
}

// authorized returns the request with what it may see. Its token is the password of Basic
// authentication with any user name (RFC 7617), which browsers ask for, or a bearer token
// (RFC 6750). If it has none that is valid, authorized has answered it.
func (p *Page) authorized(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	if !p.config.needsToken() {
		return withAccess(r, access{all: true}), true
	}
	tokens, err := p.config.Tokens()
	if err != nil {
		p.log.Error("status page not shown", "error", err)
		http.Error(w, "the tokens of this page cannot be read; see the log", http.StatusServiceUnavailable)
		return nil, false
	}
	if token, ok := findToken(tokenOf(r), tokens); ok {
		return withAccess(r, access{true, token.All, token.Scope}), true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="rcpt-milter, with a token as password", charset="UTF-8"`)
	http.Error(w, "this page needs a token (page.tokens in the configuration) as password", http.StatusUnauthorized)
	return nil, false
}

func withAccess(r *http.Request, a access) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), accessKey{}, a))
}

// tokenOf returns the token of a request, or an empty text.
func tokenOf(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// findToken returns the token that a text is. It compares the hash of the text with those of all
// tokens, in constant time. An empty text is none.
func findToken(text string, tokens []Token) (Token, bool) {
	sum, found := sha256.Sum256([]byte(text)), -1
	for i, token := range tokens {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], token.Sum[:]), i, found)
	}
	if text == "" || found < 0 {
		return Token{}, false
	}
	return tokens[found], true
}
