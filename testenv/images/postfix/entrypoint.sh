#!/bin/sh
# entrypoint.sh mx|sink: starts Postfix in the foreground with that part's main.cf.
set -eu
cp "/etc/postfix/$1.cf" /etc/postfix/main.cf
rm -f /var/spool/postfix/pid/master.pid
# What Debian's own service does first: /etc/resolv.conf and friends into the chroot.
/usr/lib/postfix/configure-instance.sh -
install -d -o vmail -g vmail -m 700 /var/mail/inbox
# start-fg does not read main.cf's mistakes aloud; check does.
postfix check
exec postfix start-fg
