#!/bin/sh
# Starts a domain controller. The first start of dc1 makes the domain and fills it; the
# first start of dc2 joins it, or restores it where dc1 has a backup. Later starts choose the certificate, and do to the
# database what a test has left word of. Nothing here waits: the health check says when
# LDAP answers.
set -eu
me=${1:-dc1}
base=DC=corp,DC=example
home=/var/lib/samba
sam=$home/private/sam.ldb
tls=$home/private/tls
conf=/etc/samba/smb.conf
say() { echo "$me: $*"; }

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
}

join() {
	say "joining the domain corp.example"
	# Until this one answers for the domain's DNS, dc1 does.
	resolv=$(cat /etc/resolv.conf)
	echo "nameserver $(getent hosts dc1.corp.example | cut -d' ' -f1)" > /etc/resolv.conf
	samba-tool domain join corp.example DC --server=dc1.corp.example -UAdministrator --password="$ADMIN_PASSWORD" \
		--dns-backend=SAMBA_INTERNAL --backend-store=mdb --option="posix:eadb=$home/private/eadb.tdb" \
		> /tmp/join.log 2>&1 || { cat /tmp/join.log; exit 1; }
	echo "$resolv" > /etc/resolv.conf
}

# From a backup of the domain comes a controller of another name with an invocationId of
# its own, and all others are gone. Without security xattrs the ACLs of sysvol cannot be
# restored; samba-tool then gives up and leaves the marks of a backup in the database, with
# which samba does not start. So sysvol stays out.
restore() {
	say "restoring the domain corp.example"
	python3 - "$1" /tmp/backup.tar <<-'PYTHON'
	import io, sys, tarfile
	empty = io.BytesIO()
	tarfile.open(fileobj=empty, mode="w:gz").close()
	with tarfile.open(sys.argv[1]) as old, tarfile.open(sys.argv[2], "w") as new:
	    for member in old:
	        data = old.extractfile(member)
	        if member.name == "sysvol.tar.gz":
	            member.size, data = len(empty.getvalue()), io.BytesIO(empty.getvalue())
	        new.addfile(member, data)
	PYTHON
	rm -rf $home/restored
	samba-tool domain backup restore --backup-file=/tmp/backup.tar --newservername="$me" --targetdir=$home/restored \
		> /tmp/restore.log 2>&1 || { cat /tmp/restore.log; exit 1; }
}

# What the machine of a controller may go through while samba is down.
fate() {
	say "$1"
	case $1 in
	keep) # a copy of the files of the database
		rm -rf $home/kept && mkdir $home/kept
		cp -a --sparse=always $home/private $home/sysvol $home/kept/ ;;
	set-back) # which is what a snapshot of a virtual machine comes to
		rm -rf $home/private $home/sysvol
		cp -a --sparse=always $home/kept/. $home/ ;;
	*) say "what is that?"; exit 1 ;;
	esac
}

sed -i "s/netbios name = .*/netbios name = $(echo "$me" | tr a-z A-Z)/" $conf
if [ ! -e $home/harness-ready ]; then
	rm -rf $home/private/* $home/sysvol/* # a start that was cut short
	if [ "$me" = dc1 ]; then
		certificates.sh
		provision
	elif [ -e /dc1/backup ]; then
		restore /dc1/backup/*.tar.bz2
	else
		join
	fi
	# What a controller with its dnsupdate service does by itself: Kerberos knows it by
	# all the names of its services.
	[ -e $home/restored ] || samba_spnupdate
	touch $home/harness-ready
fi
[ ! -e $home/restored ] || conf=$home/restored/etc/smb.conf
if [ -e $home/fate ]; then
	fate "$(cat $home/fate)"
	rm $home/fate
fi

if [ "$me" = dc1 ]; then
	certificates=$home/harness-tls
	# Good unless a test has said otherwise.
	which=$(cat $certificates/use 2>/dev/null || echo good)
	install -m 644 $certificates/harness.pem /ca/ca.pem
else
	certificates=/dc1/harness-tls
	which=$me
fi
mkdir -p $tls && chmod 700 $tls
install -m 600 $certificates/"$which".key $tls/key.pem
install -m 644 $certificates/"$which".cert $tls/cert.pem
install -m 644 $certificates/harness.pem $tls/ca.pem
say "starting samba with the certificate \"$which\""
exec samba --configfile=$conf --foreground --no-process-group --debug-stdout
