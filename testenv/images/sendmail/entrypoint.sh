#!/bin/sh
# Starts Sendmail in the foreground. Names come from /etc/hosts alone: a lookup of every
# client's address would wait for name servers that a test machine may not have.
set -eu
sink=$(getent hosts sink)
echo "$sink" >> /etc/hosts
exec /usr/sbin/sendmail-mta -bD -X /dev/stdout
