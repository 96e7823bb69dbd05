package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rcpt-milter/testenv"
)

// sambaChanges is the number of changes whose way to the answer is measured.
const sambaChanges = 40

// sambaPasses compares a full pass of the daemon with ldapsearch, which reads the same and throws it away. Both read
// Samba. Then it measures how long a change takes until smtpd answers accordingly.
func (l *laboratory) sambaPasses(ctx context.Context) error {
	if !l.samba {
		return nil
	}
	domain, err := l.harness.Administrator(ctx)
	if err != nil {
		return err
	}
	defer domain.Close()
	if _, err := l.harness.AwaitCaughtUp(ctx, domain); err != nil {
		return err
	}
	const quantity = "full pass of Samba, seconds"
	search, pass := value{Quantity: quantity, Candidate: "ldapsearch", Base: "ldapsearch"},
		value{Quantity: quantity, Candidate: daemonName, Base: "ldapsearch"}
	for range l.rounds {
		took, err := l.ldapsearch(ctx)
		if err != nil {
			return err
		}
		search.Rounds = append(search.Rounds, took)
		if err := l.harness.Sync(ctx, "--full"); err != nil {
			return err
		}
		status, err := l.harness.Status(ctx)
		if err != nil {
			return err
		}
		last := status.Directories[0].LastFull
		if last.Seen < sambaUsers || last.Result != "ok" {
			return fmt.Errorf("the full pass of Samba: %+v", last)
		}
		pass.Rounds = append(pass.Rounds, last.Seconds)
	}
	l.result.add(search)
	l.result.add(pass)
	changes, err := l.harness.MeasureChanges(ctx, domain, sambaChanges)
	if err != nil {
		return err
	}
	effect := value{Quantity: "change in Samba until the new answer, seconds, poll 1 s", Candidate: daemonName}
	for _, took := range changes {
		effect.Rounds = append(effect.Rounds, took.Seconds())
	}
	l.result.add(effect)
	return nil
}

// everything is the filter of a full pass, without the classes that Samba does not have.
const everything = "(&(|(objectClass=user)(objectClass=group)(objectClass=contact)(objectClass=organizationalUnit)" +
	"(objectClass=container))(!(objectClass=computer)))"

// ldapsearch returns the seconds that it takes to read everything that a full pass reads. The clock runs in the
// container, because starting a process there takes time of its own.
func (l *laboratory) ldapsearch(ctx context.Context) (float64, error) {
	const script = `begin=$(date +%%s%%N)
LDAPTLS_REQCERT=never ldapsearch -LLL -x -H ldaps://%s -D '%s' -w '%s' -b '%s' -E pr=1000/noprompt '%s' \
  objectGUID objectClass uSNChanged uSNCreated whenChanged isDeleted isRecycled userAccountControl \
  mail proxyAddresses >/dev/null
echo $(($(date +%%s%%N) - begin))`
	out, err := dockerOutput(ctx, "exec", l.container, "sh", "-ec",
		fmt.Sprintf(script, l.sambaHost, testenv.MailAccount, testenv.MailPassword, testenv.BaseDN, everything))
	if err != nil {
		return 0, err
	}
	nanoseconds, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	return time.Duration(nanoseconds).Seconds(), err
}
