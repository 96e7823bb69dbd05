#!/bin/sh
# entrypoint.sh: builds the tables from /bench/recipients, starts the milters in C, and Postfix with
# /bench/main.cf and /bench/master.cf. Everything that it writes for others is below /bench.
set -eu
cp /bench/main.cf /bench/master.cf /etc/postfix/
postmap lmdb:/bench/recipients cdb:/bench/recipients
bench-epoll /bench/epoll.sock &
umask 0
bench-libmilter /bench/libmilter.sock &
umask 022
rm -f /var/spool/postfix/pid/master.pid
postfix check
exec postfix start-fg
