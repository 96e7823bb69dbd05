package postfix

import "rcpt-milter/internal/text"

// checkEmpty checks that the daemon knows an address of every enforced domain.
func (e *examination) checkEmpty() {
	if len(e.daemon.Empty) == 0 {
		return
	}
	e.find("domain-empty", Problem, "no address of "+text.List(e.daemon.Empty, 10)+" is known, and its mode is enforce",
		sentence(e.daemon.EmptyReply, "all recipients there get 451")+
			" The name may be misspelt, or no directory has the recipients.",
		"in config.yaml: correct the name in domains, or add the directory with the recipients",
		"in config.yaml, if Postfix rewrites all of them: add one to accept, or set the domain to pass")
}
