#!/bin/sh
# grant-deleted.sh DN: lets the account DN list CN=Deleted Objects, and
# grant-deleted.sh DN take: takes that right away. An administrator does it on Windows with
#   dsacls "CN=Deleted Objects,DC=..." /takeownership ; dsacls ... /g ACCOUNT:LCRP
# samba-tool dsacl cannot: it does not ask for deleted objects, and the
# container is one itself. CI (what is below inherits it) is for deletions that are
# replicated: Samba takes other rights from their tombstones.
set -eu
sam=/var/lib/samba/private/sam.ldb
deleted="CN=Deleted Objects,DC=corp,DC=example"
one() { ldbsearch -H $sam --show-deleted -b "$1" -s base "$2" | awk -v k="$2:" '$1 == k { sub(/^[^ ]* /, ""); v = $0; more = 1; next } more && /^ / { v = v substr($0, 2); next } { more = 0 } END { print v }'; }
sid=$(one "$1" objectSid)
sd=$(one "$deleted" nTSecurityDescriptor)
ace="(A;CI;RPLC;;;$sid)"
without=$(echo "$sd" | sed "s/$ace//g")
if [ "${2:-give}" = give ]; then
	sd=$(echo "$without" | sed "s/D:\([A-Z]*\)(/D:\1$ace(/")
else
	sd=$without
fi
ldbmodify -H $sam --show-deleted > /dev/null <<LDIF
dn: $deleted
changetype: modify
replace: nTSecurityDescriptor
nTSecurityDescriptor: $sd
LDIF
