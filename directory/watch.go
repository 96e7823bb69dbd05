package directory

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// oidNotification makes a search wait for changes and report each changed object (MS-ADTS
// 3.1.1.3.4.1.9).
const oidNotification = "1.2.840.113556.1.4.528"

// Watch registers for change notifications in the default naming context, and calls changed for
// each one, until the context ends or an error occurs. A notification is only a reason to read:
// it does not say what changed, some may be missing, and after an interruption there is no
// position to continue from.
//
// Watch calls ready once, when the registration is active: the caller must read earlier changes
// itself. Several goroutines may call the functions at the same time, and they must return
// quickly. Watch owns the connection and closes it at the end. It always returns an error: that
// of the context, or one as Read returns.
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
		defer func() { // ready is the caller's function and may panic
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

// notification returns a search in the form that controllers accept: every object of a whole
// naming context. Without Show Deleted they do not report deletions.
func notification(base string) *ldap.SearchRequest {
	return ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)",
		[]string{"objectGUID"}, []ldap.Control{critical(oidNotification), critical(oidShowDeleted)})
}

// keepAlive reads rootDSE at once and then at every interval, until the context ends. It waits
// until more than before messages have been written, because the library writes the
// registration from its own goroutine. The first answer shows that the controller has read the
// registration. Later answers show that the controller is alive. They also keep the connection
// from being idle, which controllers close after 15 minutes (MaxConnIdleTime) and firewalls
// sooner.
func (c *Conn) keepAlive(ctx context.Context, before int64, ready func()) error {
	if err := c.tls.waitWrites(ctx, before); err != nil {
		return err
	}
	ticker := time.NewTicker(c.config.KeepAlive)
	defer ticker.Stop()
	for {
		if err := c.ping(ctx); err != nil {
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

// watchError explains why a search without end ended: the controller ended it, did not answer
// a request, or the connection was lost.
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
