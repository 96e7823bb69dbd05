#!/bin/sh
# Makes the harness's certificate authority and the certificates dc1 can show:
#   good        signed by the CA the others trust
#   expired     the same CA, but its last day was yesterday
#   unknown-ca  signed by a CA that nobody has
# and dc2, the one for dc2. Only the CA certificate goes to those who connect (volume
# /ca).
set -eu
dir=/var/lib/samba/harness-tls
umask 077
mkdir -p $dir && cd $dir
trap '[ $? = 0 ] || cat openssl.log' EXIT

new_ca() { # NAME: a self-signed authority, NAME.key and NAME.pem
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/O=rcpt-milter test harness/CN=$1" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
		-keyout "$1.key" -out "$1.pem" 2>>openssl.log
}

new_cert() { # NAME CA FROM TO HOST: a server certificate for a host, NAME.key and NAME.cert
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$5.corp.example" -keyout "$1.key" -out "$1.csr" 2>>openssl.log
	openssl ca -batch -config ca.cnf -name "$2" -extensions "$5" -notext \
		-startdate "$3" -enddate "$4" -in "$1.csr" -out "$1.cert" 2>>openssl.log
}

cat > ca.cnf <<'CNF'
[harness]
certificate = harness.pem
private_key = harness.key
database = harness.db
new_certs_dir = .
default_md = sha256
policy = any
rand_serial = yes
[stranger]
certificate = stranger.pem
private_key = stranger.key
database = stranger.db
new_certs_dir = .
default_md = sha256
policy = any
rand_serial = yes
[any]
commonName = supplied
[dc1]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:dc1.corp.example, DNS:dc1, DNS:localhost, IP:127.0.0.1
[dc2]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:dc2.corp.example, DNS:dc2, DNS:localhost, IP:127.0.0.1
CNF

: > harness.db
: > stranger.db
new_ca harness
new_ca stranger
stamp() { date -u -d "$1" +%Y%m%d%H%M%SZ; }
new_cert good harness "$(stamp '1 day ago')" "$(stamp '3650 days')" dc1
new_cert dc2 harness "$(stamp '1 day ago')" "$(stamp '3650 days')" dc2
: > harness.db # the same name again would be refused
new_cert expired harness "$(stamp '30 days ago')" "$(stamp '1 day ago')" dc1
new_cert unknown-ca stranger "$(stamp '1 day ago')" "$(stamp '3650 days')" dc1
