package postfix

import "rcpt-milter/internal/text"

// checkEmpty: the daemon knows an address of every domain that it enforces.
func (e *examination) checkEmpty() {
	if len(e.daemon.Empty) == 0 {
		return
	}
	e.find("domain-empty", Fault, "no address of "+text.List(e.daemon.Empty, 10)+" is known to the daemon, "+
		"and domains says enforce",
		"All recipients there get 451, because the name may be misspelt, or no directory has its recipients.",
		"in config.yaml: correct the name under domains, or add the directory that has its recipients",
		"in config.yaml, where Postfix rewrites all of them: name one in accept, or set the domain to pass")
}
