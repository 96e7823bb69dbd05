// Package docs holds the documents of the project. The program embeds those that it prints.
package docs

import _ "embed"

// Configuration is configuration.md, the source of the manual page rcpt-milter.yaml(5).
//
//go:embed configuration.md
var Configuration string
