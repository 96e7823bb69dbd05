// Package docs holds the documents of the project, and gives the program those that it
// carries with it.
package docs

import _ "embed"

// Configuration is configuration.md, of which the manual page rcpt-milter.yaml(5) is
// made.
//
//go:embed configuration.md
var Configuration string
