#!/bin/sh
# entrypoint.sh mx|sink: starts Postfix in the foreground with that part's main.cf,
# and its own services beside those of Debian's master.cf.
set -eu
cp "/etc/postfix/$1.cf" /etc/postfix/main.cf
cat /usr/share/postfix/master.cf.dist "/etc/postfix/$1.master" > /etc/postfix/master.cf
rm -f /var/spool/postfix/pid/master.pid
# What Debian's own service does first: /etc/resolv.conf and friends into the chroot.
/usr/lib/postfix/configure-instance.sh -
install -d -o vmail -g vmail -m 700 /var/mail/inbox
# start-fg does not read main.cf's mistakes aloud; check does.
postfix check
exec postfix start-fg
