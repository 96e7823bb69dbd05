package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// TestConnectionsOfAMember checks that the number of connections of a member is limited. A new connection ends
// the oldest, so lost connections do not lock a member out.
func TestConnectionsOfAMember(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	file, other := enrol(t, e, "mx1", Edge, "corp"), enrol(t, e, "mx2", Edge, "corp")
	neighbour, err := dial(t, e, other)
	if err != nil {
		t.Fatal(err)
	}
	const beyond = 2
	closed := make(chan int, 100)
	var all []*nats.Conn
	for i := range maxMemberConnections + beyond {
		nc, err := dial(t, e, file, nats.ClosedHandler(func(*nats.Conn) { closed <- i }))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, nc)
	}
	got := []int{<-closed, <-closed}
	slices.Sort(got)
	if !slices.Equal(got, []int{0, 1}) {
		t.Errorf("connections %v were ended", got)
	}
	for _, nc := range append(all[beyond:], neighbour) {
		if err := nc.FlushTimeout(10 * time.Second); err != nil {
			t.Errorf("another connection: %v", err)
		}
	}
}

// TestFlooding checks that an edge that sends far too much is disconnected and banned for some time, and that a
// hub is not.
func TestFlooding(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	for _, c := range []struct {
		name, subject string
		role          Role
		out           bool
	}{{"hub1", "rcpt.corp.state", Hub, false}, {"mx1", "rcpt-edge.corp.mx1", Edge, true}} {
		t.Run(c.name, func(t *testing.T) {
			file := enrol(t, e, c.name, c.role, "corp")
			closed := make(chan struct{})
			nc, err := dial(t, e, file, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
			if err != nil {
				t.Fatal(err)
			}
			flood := func() error {
				e.endFloods()
				for range floodMessages + 10 {
					if nc.Publish(c.subject, nil) != nil {
						break // already disconnected
					}
				}
				err := nc.FlushTimeout(10 * time.Second)
				e.endFloods()
				return err
			}
			if !c.out {
				if err := errors.Join(flood(), nc.FlushTimeout(10*time.Second)); err != nil {
					t.Error(err)
				}
				return
			}
			// The engine checks on its own schedule, so it may see the flood in two halves.
			for out, deadline := false, time.Now().Add(time.Minute); !out; {
				_ = flood()
				select {
				case <-closed:
					out = true
				case <-time.After(time.Second):
					if time.Now().After(deadline) {
						t.Fatal("it stays connected")
					}
				}
			}
			if _, err := dial(t, e, file); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("connects again: %v", err)
			}
			if got := e.Status().Flooding; !slices.Equal(got, []string{"mx1"}) {
				t.Errorf("flooding %v", got)
			}
			if _, err := dial(t, e, enrol(t, e, c.name, c.role, "corp")); err != nil {
				t.Errorf("enrolled again: %v", err)
			}
		})
	}
}

func TestFloods(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		role   Role
		opened int64
		first  server.ConnInfo // at the first check
		second server.ConnInfo // at the second check
		want   bool
	}{
		{"quiet", Edge, 1, server.ConnInfo{InMsgs: 10}, server.ConnInfo{InMsgs: 20}, false},
		{"much in a long time", Edge, 0, server.ConnInfo{InMsgs: floodMessages},
			server.ConnInfo{InMsgs: 2 * floodMessages}, false},
		{"messages", Edge, 0, server.ConnInfo{InMsgs: 10}, server.ConnInfo{InMsgs: 11 + floodMessages}, true},
		{"bytes", Edge, 0, server.ConnInfo{}, server.ConnInfo{InMsgs: 20, InBytes: 1 + floodBytes}, true},
		{"connections", Edge, floodOpened + 1, server.ConnInfo{}, server.ConnInfo{}, true},
		{"a hub", Hub, 0, server.ConnInfo{}, server.ConnInfo{InMsgs: 100 * floodMessages}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := openMembers(t.TempDir(), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			m.all["mx1"] = Member{Name: "mx1", Role: c.role}
			m.conns[7] = conn{name: "mx1"}
			c.first.Cid, c.second.Cid = 7, 7
			if got := m.floods([]*server.ConnInfo{&c.first}, now); len(got) > 0 {
				t.Errorf("first look: %v", got)
			}
			m.opened["mx1"] = c.opened
			if got := m.floods([]*server.ConnInfo{&c.second}, now); (len(got) == 1) != c.want {
				t.Errorf("flooding %v, want %t", got, c.want)
			}
			if got := m.bans(now); (len(got) == 1) != c.want {
				t.Errorf("kept out %v", got)
			}
			if got := m.bans(now.Add(floodBan)); len(got) > 0 {
				t.Errorf("kept out later: %v", got)
			}
		})
	}
}
