package testenv

import (
	"context"
	"fmt"
	"time"
)

// changeDeadline limits the wait for one change to reach the edge.
const changeDeadline = time.Minute

// MeasureChanges makes n changes in the domain, one after the other, and returns for each the time until the edge
// has the new answer. It cycles through four kinds of change: add a user, add an alias, remove that alias, delete
// the user.
func (h *Harness) MeasureChanges(ctx context.Context, domain *Domain, n int) ([]time.Duration, error) {
	var took []time.Duration
	for i := range n {
		name := fmt.Sprintf("measure%03d", i/4)
		address, alias, dn := name+"@corp.example", name+".alias@corp.example", "CN="+name+","+StaffOU
		var err error
		recipient, code := alias, 250
		switch i % 4 {
		case 0:
			recipient = address
			_, err = domain.AddUser(Person{Name: name, Mail: address, Proxies: []string{"SMTP:" + address}})
		case 1:
			err = domain.AddProxy(dn, "smtp:"+alias)
		case 2:
			code = 550
			err = domain.RemoveProxy(dn, "smtp:"+alias)
		case 3:
			recipient, code = address, 550
			err = domain.Delete(dn)
		}
		if err != nil {
			return took, err
		}
		deadline, cancel := context.WithTimeout(ctx, changeDeadline)
		_, after, err := h.AwaitReply(deadline, recipient, code)
		cancel()
		if err != nil {
			return took, err
		}
		took = append(took, after)
	}
	return took, nil
}
