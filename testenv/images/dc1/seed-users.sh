#!/bin/sh
# Prints LDIF of the many: 300 users, 20 groups, 20 contacts and 10 shared
# mailboxes, always the same ones. Every third user has an alias, every fifth
# odd case, every seventh values that are not SMTP, every tenth only `mail`.
exec awk 'BEGIN {
	base = "DC=corp,DC=example"; d = "corp.example"
	for (i = 1; i <= 300; i++) {
		n = sprintf("user%03d", i)
		ou = i % 4 ? "OU=Staff" : "OU=Berlin,OU=Staff"
		printf "dn: CN=%s,%s,%s\nobjectClass: user\nsAMAccountName: %s\nuserAccountControl: 544\nmail: %s@%s\n", n, ou, base, n, n, d
		if (i % 10) printf "msExchRecipientTypeDetails: 1\nproxyAddresses: SMTP:%s@%s\n", n, d
		if (i % 3 == 0) printf "proxyAddresses: smtp:first.last%03d@%s\n", i, d
		if (i % 5 == 0) printf "proxyAddresses: sMtP:Odd.Case%03d@CORP.example\n", i
		if (i % 7 == 0) printf "proxyAddresses: sip:%s@%s\nproxyAddresses: X500:/o=Corp/cn=%s\n", n, d, n
		print ""
	}
	for (i = 1; i <= 20; i++) printf "dn: CN=list%02d,OU=Groups,%s\nobjectClass: group\nsAMAccountName: list%02d\ngroupType: 8\nmail: list%02d@%s\nproxyAddresses: SMTP:list%02d@%s\n\n", i, base, i, i, d, i, d
	for (i = 1; i <= 20; i++) printf "dn: CN=contact%02d,OU=Contacts,%s\nobjectClass: contact\nmail: contact%02d@%s\ntargetAddress: SMTP:someone%02d@partner.example\nproxyAddresses: SMTP:contact%02d@%s\n\n", i, base, i, d, i, i, d
	for (i = 1; i <= 10; i++) printf "dn: CN=shared%02d,OU=Shared,%s\nobjectClass: user\nsAMAccountName: shared%02d\nuserAccountControl: 546\nmsExchRecipientTypeDetails: 4\nmail: shared%02d@%s\nproxyAddresses: SMTP:shared%02d@%s\n\n", i, base, i, i, d, i, d
}'
