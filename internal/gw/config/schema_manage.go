package config

// The lists that management refers to.
const (
	usersPath       = "/config/mgt-config/users"
	tlsProfilesPath = SharedPath + "/ssl-tls-service-profile"
	managementPath  = DevicePath + "/deviceconfig/setting/management"
)

// usersTable is mgt-config/users: who administers the gateway.
func usersTable() *element {
	return entries("users", "an administrator's account", accountName(),
		leaf("phash", "the hash of the account's password; absent: no password opens it", passwordHash()),
		leaf("public-key", "SSH public keys that open the account", publicKeys()),
		container("permissions", "what the administrator may do",
			choice("role-based", "the role",
				leaf("superuser", "everything", only("yes")),
				leaf("deviceadmin", "everything but accounts and the master key", only("yes")),
				leaf("superreader", "to see everything but secrets, and to change nothing", only("yes")),
				container("custom", "a role of one's own").await(),
				container("vsysadmin", "an administrator of a virtual system").await(),
				container("vsysreader", "a reader of a virtual system").await(),
			),
		).need(),
		leaf("client-certificate-only", "log in with a certificate alone", yesNo()).await(),
		leaf("authentication-profile", "who checks the password instead", objectName(63)).await(),
		leaf("password-profile", "how passwords age", objectName(63)).await(),
		container("preferences", "an administrator's preferences").await(),
	)
}

// tlsProfilesTable is a list of profiles of the gateway's own TLS servers.
func tlsProfilesTable() *element {
	return entries("ssl-tls-service-profile", "how the gateway's own web and API server speaks TLS", objectName(63),
		leaf("certificate", "the server's certificate, with a private key", nameIn(certificatesPath)).need(),
		container("protocol-settings", "its versions",
			leaf("min-version", "the oldest version", oneWord("tls1-2", "tls1-3").except("tls1-0", "tls1-1")).or("tls1-2"),
			leaf("max-version", "the newest version", oneWord("tls1-2", "tls1-3", "max").except("tls1-0", "tls1-1")).or("max"),
		),
	)
}

// managementTable is deviceconfig/setting/management. Addresses and ports are
// our own: there, management has a network interface to itself.
func managementTable() *element {
	days := func(log, default_ string) *element {
		return leaf(log, "days after which records of the "+log+" log are removed", integer(1, 2000)).or(default_)
	}
	return container("management", "how the gateway is administered",
		leaf("listen-address", "where SSH, HTTPS and figures are offered", listenAddress()).or("127.0.0.1"),
		leaf("https-port", "the web UI and the XML API", port()).or("4443"),
		leaf("ssh-port", "the command line", port()).or("2222"),
		leaf("metrics-port", "figures for Prometheus and health, without a login", port()).or("9180"),
		leaf("client-page", "whether anybody may fetch the forward-trust CAs and a PAC file from https://GATEWAY/clients, without a login", yesNo()).or("no"),
		leaf("idle-timeout", "minutes without a command after which a session ends; 0 for never", integer(0, 1440)).or("60"),
		container("api", "the XML API",
			container("key", "its keys",
				leaf("lifetime", "minutes for which a new key is valid; 0 for ever", integer(0, 5_256_000)).or("525600"),
			),
		),
		container("admin-lockout", "wrong passwords",
			leaf("failed-attempts", "wrong passwords in a row after which an account is locked; 0 for never", integer(0, 10)).or("5"),
			leaf("lockout-time", "minutes for which it is locked", integer(1, 1440)).or("15"),
		),
		container("quota-settings", "how long and how much is logged",
			leaf("max-size", "megabytes of all logs together, after which the oldest records are removed", integer(16, 1_048_576)).or("4096"),
			container("log-expiration-period", "how long each log is kept",
				days("traffic", "90"), days("decryption", "90"), days("system", "365"), days("config", "365"),
			),
		),
	)
}
