package postfix

import "testing"

// TestSocketmaps: Postfix asks the tables of relay_recipient_maps in turn, so the socketmap of the daemon makes those
// beside it harmless. A table of proxy: is read by proxymap, not by smtpd.
func TestSocketmaps(t *testing.T) {
	const (
		list  = "hash:/etc/postfix/relay_recipients"
		ours  = "socketmap:unix:rcpt-milter/map.sock:recipients"
		whole = "socketmap:unix:/run/rcpt-milter/map.sock:recipients"
	)
	inQueue := func(s *scene) {
		s.Socketmap = []string{"unix:" + mapSocket}
		s.sockets[mapSocket] = s.sockets[ownSocket]
	}
	outside := func(s *scene) {
		s.Socketmap = []string{"unix:/run/rcpt-milter/map.sock"}
		s.sockets["/run/rcpt-milter/map.sock"] = s.sockets[ownSocket]
	}
	for _, c := range []struct {
		name, maps string
		plant      func(*scene)
		want, fix  string // the last line of the fix
	}{
		{"after a table", list + ", " + ours, inQueue, "", ""},
		{"before a table", ours + " " + list, inQueue, "", ""},
		{"in a union", "unionmap:{" + list + "," + ours + "}", inQueue, "", ""},
		{"a table before one that matches everything", list + " static:all", func(*scene) {}, "", ""},
		{"of another program, beside a table", list + " socketmap:inet:127.0.0.1:1234:x", func(*scene) {},
			"(socketmap-foreign) old-table", "postconf -e 'relay_recipient_maps ='"},
		{"without the daemon, beside a table", list + ", " + ours, func(*scene) {}, "socketmap-missing",
			"postconf -e 'relay_recipient_maps = " + list + ", " + ours + "'"},
		{"at another path, beside a table", list + ", " + whole, inQueue, "socketmap-missing",
			"postconf -e 'relay_recipient_maps = " + list + ", " + ours + "'"},
		{"of another name, beside a table", "$list, socketmap:unix:rcpt-milter/map.sock:virtual", inQueue,
			"socketmap-name", "postconf -e 'relay_recipient_maps = $list, " + ours + "'"},

		{"by proxymap", "proxy:" + whole, outside, "", ""},
		{"by proxymap, below the queue directory", "proxy:" + ours, inQueue, "", ""},
		{"by proxymap, of a union", "proxy:unionmap:{" + whole + "}", outside, "", ""},
		{"by proxymap, in a union", "unionmap:{" + list + ", proxy:" + whole + "}", outside, "", ""},
		{"by a chrooted proxymap", "proxy:" + whole, func(s *scene) {
			outside(s)
			s.service("proxymap/unix").Chroot = "y"
		}, "socketmap-missing", "postconf -e 'relay_recipient_maps = proxy:" + ours + "'"},
		{"by proxymap, without master.cf", "proxy:" + whole, func(s *scene) {
			outside(s)
			s.service("proxymap/unix").Name = "other"
		}, "", ""},
		{"by smtpd, which is chrooted", whole, outside, "socketmap-missing",
			"postconf -e 'relay_recipient_maps = " + ours + "'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			s.set("relay_recipient_maps", c.maps)
			s.set("list", list)
			c.plant(s)
			got := s.examine()
			if summary(got) != c.want {
				t.Fatalf("found %q, want %q: %+v", summary(got), c.want, got)
			}
			if len(got) > 0 && got[len(got)-1].Fix[len(got[len(got)-1].Fix)-1] != c.fix {
				t.Errorf("fixed by %q, want %q", got[len(got)-1].Fix, c.fix)
			}
		})
	}
}
