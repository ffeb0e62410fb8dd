package config

// The lists that others refer to.
const (
	certificatesPath = SharedPath + "/certificate"
	profilesPath     = VsysPath + "/profiles/decryption"
)

// certificateTable is a list of certificates. What says again what the PEM
// says is a note, checked against it where its form is certain.
func certificateTable(name string) *element {
	const again = "; must agree with public-key"
	return entries(name, "a certificate, for others to refer to by its name", objectName(63),
		leaf("public-key", "the certificate, alone or with its chain; only an entry with csr may be without", certificates()),
		leaf("private-key-on-hsm", "its private key resides on the HSM", yesNo()).or("no"),
		leaf("private-key", "its private key, sealed; never beside private-key-on-hsm yes. Without either the gateway has no private key for it", sealedSecret("a private key in PKCS#8")),
		leaf("csr", "a request for the certificate, kept until the certificate is there", certificateRequest()).note(),
		leaf("status", "a revoked certificate cannot be referred to", oneWord("valid", "revoked")).or("valid"),
		leaf("algorithm", "the kind of key"+again, oneWord("RSA", "EC")).note(),
		leaf("ca", "whether it is a CA's"+again, yesNo()).note(),
		leaf("common-name", "the subject's common name"+again, text(255)).note(),
		leaf("subject", "the subject, in any notation", text(1023)).note(),
		leaf("subject-hash", "OpenSSL's hash of the subject", hexadecimal(8)).note(),
		leaf("issuer", "the issuer, in any notation", text(1023)).note(),
		leaf("issuer-hash", "OpenSSL's hash of the issuer", hexadecimal(8)).note(),
		leaf("not-valid-before", "as OpenSSL prints it"+again, certificateTime()).note(),
		leaf("not-valid-after", "as OpenSSL prints it"+again, certificateTime()).note(),
		leaf("revoke-date-epoch", "when status became revoked, in seconds since 1970", integer(0, 253402300799)).note(),
		leaf("expiry-epoch", "not-valid-after in seconds since 1970"+again, integer(0, 253402300799)).note(),
	)
}

func decryptTable(name string) *element {
	pair := func(name, help string) *element {
		return container(name, help,
			leaf("rsa", "for servers with an RSA key: a CA certificate with an RSA key, its private key on the HSM or, with a warning, here", nameIn(certificatesPath)),
			leaf("ecdsa", "for servers with an ECDSA key: a CA certificate with an ECDSA key, its private key on the HSM or, with a warning, here", nameIn(certificatesPath)),
		)
	}
	return container(name, "what decryption works with",
		pair("forward-trust-certificate", "signs leaves for servers whose chain was verified; where one of the two is absent the other serves"),
		pair("forward-untrust-certificate", "signs leaves for servers whose chain was not verified; absent: such servers are blocked"),
		members("trusted-root-CA", "roots that servers' chains may end in, besides the system's: CA certificates", nameIn(certificatesPath)).or("the system's alone"),
		entries("ssl-exclude-cert", "servers that are not decrypted, whatever the rules say", serverPattern(),
			leaf("exclude", "yes: the server is not decrypted; no: the entry has no effect", yesNo()).or("yes"),
			leaf("description", "for people", text(1023)).note(),
		),
		members("root-ca-exclude-list", "roots of the system's that servers' chains may not end in", text(255)).await(),
		members("disabled-ssl-exclude-cert-from-predefined", "predefined servers that are decrypted all the same; there are none", text(255)).await(),
	)
}

// rulesTable is the decryption rulebase. The first rule that matches decides.
func rulesTable() *element {
	one := func(name, help string) *element {
		return members(name, help, only("any")).or("any")
	}
	e := entries("rules", "the rules in their order: the first that matches decides; what none matches is decrypted under the default profile where it comes through the forward proxy, and relayed as it is where it comes inbound", objectName(63),
		leaf("action", "what happens to what matches", oneWord("decrypt", "no-decrypt")).need(),
		choice("type", "what the rule is for; absent: ssl-forward-proxy",
			container("ssl-forward-proxy", "clients of ours, servers of others"),
			container("ssl-inbound-inspection", "clients of others, servers of ours",
				members("certificates", "the server's certificates, with private keys; at least one where the action is decrypt", nameIn(certificatesPath)).or("none"),
			),
			container("ssh-proxy", "SSH").await(),
		),
		members("source", "where the client is", network()).or("any"),
		members("destination", "where the server is", network()).or("any"),
		members("destination-host", "the server's name, as the client asks for it (our own)", hostPattern()).or("any"),
		members("service", "the server's port; application-default is 443 of TCP", serviceIn()).or("any"),
		leaf("negate-source", "source says where the client is not", yesNo()).or("no"),
		leaf("negate-destination", "destination says where the server is not", yesNo()).or("no"),
		leaf("profile", "the decryption profile; absent: one of the defaults", nameIn(profilesPath)),
		leaf("disabled", "the rule is passed over", yesNo()).or("no"),
		leaf("log-success", "keep records of connections that went well", yesNo()).or("yes"),
		leaf("log-fail", "keep records of connections that did not", yesNo()).or("yes"),
		leaf("description", "for people", text(1023)).note(),
		one("from", "the client's zone"),
		one("to", "the server's zone"),
		one("source-user", "the client's user"),
		one("category", "the server's URL category"),
		leaf("log-setting", "where logs are forwarded to", objectName(63)).await(),
		members("tag", "labels", text(127)).await(),
		leaf("group-tag", "the label that the rule is grouped by", text(127)).await(),
		members("source-hip", "the client's host information profile", text(63)).await(),
		members("destination-hip", "the server's host information profile", text(63)).await(),
		leaf("packet-broker-profile", "where decrypted traffic is copied to", objectName(63)).await(),
		leaf("forwarding-profile", "the same under its older name", objectName(63)).await(),
		container("target", "the devices of a fleet that the rule is for").await(),
	)
	e.attrs = []attribute{{"uuid", "the rule's identity across renames", Awaited}}
	return e
}

// profilesTable is the list of decryption profiles.
func profilesTable() *element {
	yes := func(name, help string) *element { return leaf(name, help, yesNo()).or("no") }
	safe := func(name, help string) *element { return leaf(name, help, yesNo()).or("yes") }
	later := func(name, help string) *element { return leaf(name, help, yesNo()).await() }
	return entries("decryption", "conditions of decryption, for rules to refer to by name", objectName(31),
		container("ssl-forward-proxy", "what forward proxy blocks; what is not blocked gets a leaf of the forward-untrust CA",
			yes("block-expired-certificate", "block servers whose certificate has expired"),
			yes("block-untrusted-issuer", "block servers whose chain does not end in a trusted root"),
			yes("block-if-sni-mismatch", "block servers whose certificate is not for the name that the client asked for"),
			later("block-unknown-cert", "block servers whose certificate's status is unknown"),
			later("block-timeout-cert", "block servers whose certificate's status is not learnt in time"),
			later("block-client-cert", "block servers that ask for a client certificate"),
			safe("block-unsupported-version", "block clients and servers without a version that the profile allows; no: relay them undecrypted"),
			safe("block-if-hsm-unavailable", "block while the HSM does not answer; no: relay undecrypted"),
			later("block-unsupported-cipher", "block cipher suites that the profile does not allow"),
			later("block-if-no-resource", "block when resources are short"),
			later("restrict-cert-exts", "leave out a server certificate's unusual extensions"),
			later("strip-alpn", "take ALPN out of the hello"),
			later("auto-include-altname", "add a subject alternative name to leaves of certificates without"),
		),
		container("ssl-inbound-proxy", "what inbound inspection blocks",
			safe("block-unsupported-version", "block clients without a version that the profile allows; no: relay them undecrypted"),
			safe("block-if-hsm-unavailable", "block while the HSM does not answer; no: relay undecrypted"),
			later("block-unsupported-cipher", "block cipher suites that the profile does not allow"),
			later("block-if-no-resource", "block when resources are short"),
		),
		container("ssl-no-proxy", "what is blocked without decryption",
			later("block-expired-certificate", "block servers whose certificate has expired"),
			later("block-untrusted-issuer", "block servers whose chain does not end in a trusted root"),
		),
		protocolTable(),
	)
}

func protocolTable() *element {
	e := container("ssl-protocol-settings", "versions and algorithms of both legs",
		leaf("min-version", "the oldest version", oneWord("tls1-2", "tls1-3").except("tls1-0", "tls1-1")).or("tls1-2"),
		leaf("max-version", "the newest version", oneWord("tls1-2", "tls1-3", "max").except("tls1-0", "tls1-1")).or("max"),
		leaf("keyxchg-algo-rsa", "allow RSA key exchange (TLS 1.2, no forward secrecy) on the inbound leg and offer it to servers", yesNo()).or("no"),
		leaf("keyxchg-algo-ecdhe", "allow ECDHE key exchange in TLS 1.2", yesNo()).or("yes"),
	)
	for _, name := range []string{
		"keyxchg-algo-dhe",
		"enc-algo-3des", "enc-algo-rc4", "enc-algo-aes-128-cbc", "enc-algo-aes-256-cbc",
		"enc-algo-aes-128-gcm", "enc-algo-aes-256-gcm", "enc-algo-chacha20-poly1305",
		"auth-algo-md5", "auth-algo-sha1", "auth-algo-sha256", "auth-algo-sha384",
	} {
		e.children = append(e.children, leaf(name, "allow the algorithm", yesNo()).await())
	}
	return e
}
