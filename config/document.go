package config

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"rcpt-milter/internal/text"
)

// kind is the type of a YAML 1.2 value: only true and false are booleans.
type kind int

const (
	null kind = iota // null, ~ or no value
	boolean
	number
	stringKind
	list
	mapping
)

// node is one value of the file. The rest of the package knows nothing else of YAML.
type node struct {
	kind   kind
	source string // of a scalar: its text, quotes and escapes resolved
	position
	items   []*node
	entries []entry
	unread  []entry // those whose values have an error; the values have a position only
}

type entry struct{ key, value *node }

// maxDepth limits the nesting of brackets and dashes. The file has four levels. The memory
// of the parser grows with the square of the depth.
const maxDepth = 64

// parse reads the YAML. If it cannot be read, it records an error and returns nil.
func (r *reader) parse(data []byte) (root *node) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // byte order mark
	if p, reason := unreadable(data); reason != "" {
		r.failAt(p, "%s", reason)
		return nil
	}
	// A panic of the parser must not end the daemon during a reload.
	defer func() {
		if recover() != nil {
			r.failAt(position{}, "not valid YAML")
			root = nil
		}
	}()
	r.lines = linesOf(data)
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err, data)
		return nil
	}
	return r.document(file)
}

// unreadable finds input that must not reach the parser.
func unreadable(data []byte) (position, string) {
	if len(data) > maxFile {
		return position{}, fmt.Sprintf("larger than %d KiB; is this the configuration file?", maxFile>>10)
	}
	open := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		at := position{i + 1, 1}
		if !utf8.Valid(line) {
			return at, "not valid UTF-8"
		}
		if bytes.IndexByte(line, 0) >= 0 {
			return at, "contains a NUL character; is this a text file?"
		}
		indent := line[:len(line)-len(bytes.TrimLeft(line, "-?: \t"))]
		if bytes.Count(indent, []byte("- ")) > maxDepth || maxOpen(line, &open) > maxDepth {
			return at, "nested too deeply"
		}
	}
	return position{}, ""
}

// maxOpen returns the maximum number of open brackets in a line. open is the number at the
// end of the previous line, and is updated.
func maxOpen(line []byte, open *int) int {
	most := 0
	for _, c := range line {
		switch c {
		case '[', '{':
			*open++
			most = max(most, *open)
		case ']', '}':
			*open = max(0, *open-1)
		}
	}
	return most
}

// document returns the root of a file with exactly one document.
func (r *reader) document(file *ast.File) *node {
	if len(file.Docs) > 1 {
		r.failAt(positionOf(file.Docs[1].Start), "several YAML documents or a %%YAML directive; expected one document")
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		r.failAt(position{}, "empty file; expected at least domains and directories")
		return nil
	}
	root := r.convert(file.Docs[0].Body)
	if root == nil {
		return nil
	}
	if root.kind != mapping {
		r.failAt(root.position, "expected keys with values, such as \"poll: 5s\", got %s", root)
		return nil
	}
	return root
}

// convert converts a node of the parser. For unsupported syntax it records an error and
// returns nil.
func (r *reader) convert(in ast.Node) *node {
	n := &node{position: positionOf(in.GetToken())}
	switch in := in.(type) {
	case *ast.NullNode:
		n.kind, n.source = null, in.GetToken().Value
	case *ast.BoolNode:
		n.kind, n.source = boolean, in.GetToken().Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		n.kind, n.source = number, in.GetToken().Value
	case *ast.StringNode:
		if in.Token.Type == token.DoubleQuoteType && r.hasMistakenEscape(n.position) {
			r.failAt(n.position, "not valid YAML: %s", escapeRemedy)
			return nil
		}
		n.kind, n.source = stringKind, in.Value
	case *ast.LiteralNode:
		n.kind, n.source = stringKind, in.Value.Value
	case *ast.SequenceNode:
		n.kind = list
		for _, item := range in.Values {
			if whole, cut := rejoinAtColon(item); cut && in.IsFlowStyle {
				n.items = append(n.items, whole)
			} else if item := r.convert(item); item != nil {
				n.items = append(n.items, item)
			}
		}
	case *ast.MappingNode:
		return r.convertMapping(n, in.Values)
	case *ast.MappingValueNode:
		return r.convertMapping(n, []*ast.MappingValueNode{in})
	default:
		r.failAt(n.position, "anchors, aliases, tags and complex keys are not supported; write the value out")
		return nil
	}
	return n
}

// rejoinAtColon joins a text that the parser has split at a colon without a space after it,
// as in {urls: [ldaps://dc1.corp.example:636]}. In YAML such a colon is part of the text
// (YAML 1.2.2 section 7.3.3).
func rejoinAtColon(in ast.Node) (*node, bool) {
	m, ok := in.(*ast.MappingNode)
	if !ok || m.IsFlowStyle || len(m.Values) != 1 {
		return nil, false
	}
	v := m.Values[0]
	key, value := v.Key.GetToken(), v.Value.GetToken()
	if isQuoted(key) || isQuoted(value) || !adjacent(key, v.Start) || !adjacent(v.Start, value) {
		return nil, false
	}
	return &node{position: positionOf(key), kind: stringKind, source: key.Value + ":" + value.Value}, true
}

func isQuoted(t *token.Token) bool {
	return t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
}

// adjacent reports whether a token begins where the previous one ends.
func adjacent(before, t *token.Token) bool {
	return before.Position.Line == t.Position.Line &&
		before.Position.Column+utf8.RuneCountInString(before.Value) == t.Position.Column
}

func (r *reader) convertMapping(n *node, values []*ast.MappingValueNode) *node {
	n.kind = mapping
	for _, v := range values {
		key, value := r.convert(v.Key), r.convert(v.Value)
		switch {
		case key == nil:
		case value == nil:
			n.unread = append(n.unread, entry{key, &node{position: positionOf(v.Value.GetToken())}})
		default:
			n.entries = append(n.entries, entry{key, value})
		}
	}
	// The parser sets the position of a block mapping to its first colon.
	if len(n.entries) > 0 && n.entries[0].key.line == n.line {
		n.column = min(n.column, n.entries[0].key.column)
	}
	return n
}

func positionOf(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{}
	}
	return position{t.Position.Line, t.Position.Column}
}

// String describes the node for errors; long texts are truncated.
func (n *node) String() string {
	switch n.kind {
	case null:
		return "nothing"
	case list:
		return "a list"
	case mapping:
		return "a mapping"
	case stringKind:
		return quoted(n.source)
	default:
		return n.source
	}
}

// quoted returns a value of the file for an error message.
func quoted(s string) string { return text.Quoted(s, 80) }
