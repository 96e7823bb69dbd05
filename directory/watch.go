package directory

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// oidNotification makes a search wait for changes and report each object as it changes
// (MS-ADTS 3.1.1.3.4.1.9).
const oidNotification = "1.2.840.113556.1.4.528"

// Watch asks the controller to tell of changes in the default naming context, and calls
// changed for each one it tells of, until the context ends or something goes wrong. What
// changed it does not say: nothing that arrives here may be relied upon, because changes
// may be left out, and it is not known after an interruption where to go on. It is a
// reason to look, no more.
//
// It calls ready once, when the registration is in force: what changed before that must
// be looked for. The functions may be called from several goroutines at a time and must
// not take long. Watch takes the connection for itself and closes it in the end; it always
// gives an error, as Read, or the end of the context.
func (c *Conn) Watch(ctx context.Context, ready, changed func()) error {
	defer c.Close()
	root, err := c.Root(ctx)
	if err != nil {
		return err
	}
	watching, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(watching, c.raw.abort)()
	before := c.tls.writesStarted.Load() // all of them have been answered
	events := c.ldap.SearchAsync(watching, notification(root.DefaultNamingContext), 0)
	var alive error
	var keeper sync.WaitGroup
	keeper.Go(func() {
		defer func() { // there may be something wrong with ready
			if v := recover(); v != nil {
				alive = newError(ErrProtocol, "panic: %v", v)
				c.raw.abort()
			}
		}()
		alive = c.keepAlive(watching, before, ready)
	})
	for events.Next() {
		if events.Entry() != nil {
			changed()
		}
	}
	end()
	keeper.Wait()
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	return c.operationError("waiting for changes", c.watchError(events.Err(), alive))
}

// notification is a search as the controllers take it: every object, the whole of a
// naming context. Without Show Deleted they keep deletions to themselves.
func notification(base string) *ldap.SearchRequest {
	return ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)",
		[]string{"objectGUID"}, []ldap.Control{critical(oidNotification), critical(oidShowDeleted)})
}

// keepAlive reads rootDSE and then again every while, as long as the context lasts. It
// begins when more than so many messages have been written, because the library writes
// the registration from a goroutine of its own. The first answer shows that the registration before it was read; later ones, that the
// other side still lives, and they keep the connection from being idle, which controllers
// end after 15 minutes (MaxConnIdleTime) and firewalls sooner.
func (c *Conn) keepAlive(ctx context.Context, before int64, ready func()) error {
	if err := c.tls.waitWrites(ctx, before); err != nil {
		return err
	}
	ticker := time.NewTicker(c.config.KeepAlive)
	defer ticker.Stop()
	for {
		if _, err := c.lookup(ctx, "", []string{"highestCommittedUSN"}); err != nil {
			c.raw.abort()
			return err
		}
		ready()
		ready = func() {}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watchError says why a search ended that has no end: because the controller said so,
// because it was found dead, or because the connection was lost.
func (c *Conn) watchError(answer, alive error) error {
	if _, ok := fromServer(answer); ok {
		return answer
	}
	if alive != nil && !errors.Is(alive, context.Canceled) {
		return alive
	}
	if lost := c.raw.err(); lost != nil {
		return lost
	}
	return newError(ErrProtocol, "the controller ended the notification")
}
