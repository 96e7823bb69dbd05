package testenv_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

// get sends one HTTP request.
func get(ctx context.Context, url string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, string(text), err
}

// after runs a function after a random part of a duration, to vary the moment of a crash.
func after(limit time.Duration, do func() error) error {
	done := make(chan error, 1)
	time.AfterFunc(rand.N(limit), func() { done <- do() })
	return <-done
}

// TestKilledInFullPass kills the daemon during a full pass: once certainly in the middle of
// the read, because dc1 is frozen, and several times at random. After each restart the index
// equals AD.
func TestKilledInFullPass(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	stop := e.while("alice@corp.example")
	defer stop()

	e.must(e.Pause(e.ctx, testenv.DC))
	_, err := e.RunMilter(e.ctx, "sync", "--full")
	e.must(err)
	e.must(e.Kill(e.ctx, testenv.Milter))
	e.must(e.Unpause(e.ctx, testenv.DC))
	e.must(e.Start(e.ctx, testenv.Milter))
	e.equalsAD(domain, "nobody@corp.example")

	for range 5 {
		_, err := e.RunMilter(e.ctx, "sync", "--full")
		e.must(err)
		e.must(after(200*time.Millisecond, func() error { return e.Kill(e.ctx, testenv.Milter) }))
		e.must(e.Start(e.ctx, testenv.Milter))
		e.equalsAD(domain, "nobody@corp.example")
	}
}

// TestKilledInFirstPass kills the daemon while it fills an empty store. No address is unknown
// until a full pass has ended. At the end the index equals AD.
func TestKilledInFirstPass(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	stop := e.while("alice@corp.example")
	defer stop()
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.EmptyStore(e.ctx))
	for range 5 {
		e.must(e.StartOnly(e.ctx, testenv.Milter))
		e.must(after(600*time.Millisecond, func() error { return e.Kill(e.ctx, testenv.Milter) }))
	}
	e.must(e.Start(e.ctx, testenv.Milter))
	e.equalsAD(domain, "nobody@corp.example")
}

// TestKilledInIncrementalPass freezes the daemon, changes many objects, resumes the daemon and
// kills it during the pass that reads them.
func TestKilledInIncrementalPass(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	stop := e.while("alice@corp.example")
	defer stop()
	made := map[string]bool{}
	t.Cleanup(func() {
		for dn := range made {
			domain.Delete(dn)
		}
	})
	var gone []string
	for round := range 5 {
		e.must(e.Pause(e.ctx, testenv.Milter))
		gone = append(gone, e.changeMany(domain, round, made)...)
		e.must(e.Unpause(e.ctx, testenv.Milter))
		e.must(after(300*time.Millisecond, func() error { return e.Kill(e.ctx, testenv.Milter) }))
		e.must(e.Start(e.ctx, testenv.Milter))
		e.equalsAD(domain, gone...)
	}
}

// changeMany adds 20 users with an alias. It removes aliases and deletes users of the previous
// round, and gives some of their addresses to other users. It returns the addresses that have
// no owner any more.
func (e *edge) changeMany(domain *testenv.Domain, round int, made map[string]bool) (gone []string) {
	e.t.Helper()
	for i := range 20 {
		name := fmt.Sprintf("crash%d-%02d", round, i)
		address, alias := name+"@corp.example", name+".alias@corp.example"
		dn, err := domain.AddUser(testenv.Person{Name: name, Mail: address,
			Proxies: []string{"SMTP:" + address, "smtp:" + alias}})
		e.must(err)
		made[dn] = true
		if round == 0 {
			continue
		}
		before := fmt.Sprintf("crash%d-%02d", round-1, i)
		beforeDN := "CN=" + before + "," + testenv.StaffOU
		switch i % 3 {
		case 0:
			e.must(domain.RemoveProxy(beforeDN, "smtp:"+before+".alias@corp.example"))
			gone = append(gone, before+".alias@corp.example")
		case 1:
			e.must(domain.Delete(beforeDN))
			delete(made, beforeDN)
			gone = append(gone, before+"@corp.example", before+".alias@corp.example")
		case 2: // the address moves to the new user
			e.must(domain.RemoveProxy(beforeDN, "smtp:"+before+".alias@corp.example"))
			e.must(domain.AddProxy(dn, "smtp:"+before+".alias@corp.example"))
		}
	}
	return gone
}
