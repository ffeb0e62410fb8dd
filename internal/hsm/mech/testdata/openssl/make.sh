#!/bin/sh
# Makes the files beside it: keys as OpenSSL writes them, and keys that it
# wrapped for rsa.pem as PKCS#11's CKM_RSA_AES_KEY_WRAP with SHA-256 has it.
# OpenSSL 3.0.x; run in this directory.
set -eu
make() { # file, and what genpkey takes
	file=$1
	shift
	openssl genpkey -quiet "$@" | openssl pkcs8 -topk8 -nocrypt -outform DER -out "$file.der"
}
make rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
for curve in P-256 P-384 P-521; do
	make $curve -algorithm EC -pkeyopt ec_paramgen_curve:$curve
done
make ed25519 -algorithm ED25519
make x25519 -algorithm X25519
wrap() { # target
	openssl rand -out ephemeral 32
	openssl pkeyutl -encrypt -inkey rsa.der -keyform DER -in ephemeral -out head \
		-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256
	openssl enc -id-aes256-wrap-pad -K "$(od -An -v -tx1 ephemeral | tr -d ' \n')" -iv A65959A6 -in "$1" -out tail
	cat head tail
	rm ephemeral head tail
}
printf 'a generic secret of an odd length' >secret
wrap secret >secret.wrapped
wrap P-521.der >P-521.wrapped
