#!/bin/sh
# Starts dc1. The first start makes the domain and fills it; later starts only
# choose the certificate. Nothing here waits: the health check says when LDAP answers.
set -eu
base=DC=corp,DC=example
sam=/var/lib/samba/private/sam.ldb
tls=/var/lib/samba/private/tls
say() { echo "dc1: $*"; }

provision() {
	say "provisioning the domain corp.example"
	samba-tool domain provision --realm=CORP.EXAMPLE --domain=CORP --server-role=dc \
		--dns-backend=SAMBA_INTERNAL --backend-store=mdb --host-name=dc1 \
		--adminpass="$ADMIN_PASSWORD" --option="posix:eadb=/var/lib/samba/private/eadb.tdb" \
		> /tmp/provision.log 2>&1 || { cat /tmp/provision.log; exit 1; }
	samba-tool domain passwordsettings set --complexity=off --min-pwd-length=0 --min-pwd-age=0 --max-pwd-age=0 > /dev/null

	# One process per schema file: each starts with the schema the one before left.
	for f in /seed/schema-*.ldif; do
		say "extending the schema: $f"
		ldbmodify -H $sam --option="dsdb:schema update allowed=true" "$f" > /dev/null
	done

	say "adding recipients"
	seed-users.sh | cat /seed/objects.ldif - | ldbadd -H $sam > /dev/null
	for f in /seed/configuration.ldif; do ldbadd -H $sam "$f" > /dev/null; done

	say "adding the service accounts"
	samba-tool user create svc-mail "$SVC_MAIL_PASSWORD" --userou=OU=Service --description="reads recipients and tombstones" > /dev/null
	samba-tool user create svc-plain "$SVC_PLAIN_PASSWORD" --userou=OU=Service --description="has no right to list deleted objects" > /dev/null
	grant-deleted.sh "CN=svc-mail,OU=Service,$base"
	# What a controller with its dnsupdate service does by itself: Kerberos knows it as
	# an LDAP server.
	samba-tool spn add ldap/dc1.corp.example 'DC1$'
}

if [ ! -e /var/lib/samba/harness-ready ]; then
	rm -rf /var/lib/samba/private/* /var/lib/samba/sysvol/* # a start that was cut short
	certificates.sh
	provision
	touch /var/lib/samba/harness-ready
fi

# Which of the certificates to show: good unless a test has said otherwise.
which=$(cat /var/lib/samba/harness-tls/use 2>/dev/null || echo good)
mkdir -p $tls && chmod 700 $tls
install -m 600 /var/lib/samba/harness-tls/"$which".key $tls/key.pem
install -m 644 /var/lib/samba/harness-tls/"$which".cert $tls/cert.pem
install -m 644 /var/lib/samba/harness-tls/harness.pem $tls/ca.pem
install -m 644 /var/lib/samba/harness-tls/harness.pem /ca/ca.pem
say "starting samba with the certificate \"$which\""
exec samba --foreground --no-process-group --debug-stdout
