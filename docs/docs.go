// Package docs holds the documents of the project. The program embeds those that it prints.
package docs

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// Configuration is configuration.md, the source of the manual page rcpt-milter.yaml(5).
//
//go:embed configuration.md
var Configuration string

// ConfigurationPage is the name of the manual page of the configuration file, in section 5.
const ConfigurationPage = "rcpt-milter.yaml"

// ConfigurationManual returns the manual page rcpt-milter.yaml(5) for a version of the program
// that was built at a time.
func ConfigurationManual(version string, built time.Time) []byte {
	_, text, _ := strings.Cut(Configuration, "\n") // without the title
	head := fmt.Sprintf("%% %q \"5\" %q %q %q\n# NAME\n%s \\- the configuration of rcpt-milter\n\n# DESCRIPTION\n",
		strings.ToUpper(ConfigurationPage), built.Format("Jan 2006"), "rcpt-milter "+version, "File Formats",
		ConfigurationPage)
	return md2man.Render([]byte(head + text + "\n# SEE ALSO\n**rcpt-milter(8)**, **rcpt-milter-check(8)**\n"))
}
