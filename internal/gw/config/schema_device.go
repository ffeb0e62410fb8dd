package config

// systemTable is deviceconfig/system: the device's name, its HSM and the way
// to it.
func systemTable() *element {
	return container("system", "the device itself",
		leaf("hostname", "the gateway's own name, in its prompt and its logs", hostName()).or("moongate"),
		leaf("ssl-tls-service-profile", "how the XML API's server speaks TLS; absent: with a certificate that the gateway makes for itself", nameIn(tlsProfilesPath)),
		hsmTable(),
		container("route", "where the device's own connections leave from",
			entries("service", "the route of one service", oneWord("hsm"),
				container("source", "where its connections leave from; absent: wherever the machine's routes lead",
					leaf("interface", "the interface, whose address of the server's family they have", interfaceName()),
					leaf("address", "the address that they have; beside interface it must be one of that one's", sourceAddress()),
				).need(),
			),
		),
		leaf("ip-address", "the management interface's address; here that is listen-address of setting/management", listenAddress()).await(),
		leaf("netmask", "its network's mask", text(15)).await(),
		leaf("default-gateway", "its router", text(45)).await(),
		leaf("ipv6-address", "its address", text(49)).await(),
		leaf("ipv6-default-gateway", "its router", text(45)).await(),
		leaf("domain", "the domain of the host name", text(253)).await(),
		leaf("login-banner", "what is shown before a login", text(3200)).await(),
		leaf("timezone", "the time zone", text(63)).await(),
		container("dns-setting", "name servers; the machine's are asked").await(),
		container("ntp-servers", "time servers; the machine's clock is taken").await(),
		container("permitted-ip", "from where management is reached").await(),
		container("service", "which services management offers").await(),
		container("snmp-setting", "SNMP").await(),
		leaf("update-server", "where updates come from", text(253)).await(),
		leaf("server-verification", "whether its certificate is verified", yesNo()).await(),
		container("panorama", "a central manager").await(),
		leaf("authentication-profile", "who checks administrators' passwords instead", objectName(63)).await(),
		leaf("certificate-profile", "which client certificates administrators log in with", objectName(63)).await(),
	)
}

// proxyTable is deviceconfig/setting/proxy, which is our own: PAN-OS has no
// proxy listeners of this kind.
func proxyTable() *element {
	return container("proxy", "the data plane",
		entries("forward", "listeners for SSL Forward Proxy, as an HTTP proxy (CONNECT)", objectName(31),
			leaf("address", "where it listens", listenAddress()).or("127.0.0.1"),
			leaf("port", "where it listens", port()).or("8080"),
		),
		entries("inbound", "listeners for SSL Inbound Inspection, each before one protected server", objectName(31),
			leaf("address", "where it listens", listenAddress()).or("127.0.0.1"),
			leaf("port", "where it listens", port()).need(),
			leaf("server-address", "the protected server; a rule's destination is compared with it", host()).need(),
			leaf("server-port", "the protected server's port", port()).or("443"),
			leaf("server-name", "the name that the protected server is asked for and must prove; absent: the name that the client asked for", hostName()),
		),
		members("allowed-destination", "what clients may reach although it is loopback, link-local or one of the gateway's own ports", allowedDestination()).or("none"),
		container("limits", "bounds of the data plane",
			leaf("max-connections", "client connections at a time", integer(1, 1_000_000)).or("10000"),
			leaf("handshake-timeout", "seconds for a handshake with a client or a server", integer(1, 300)).or("30"),
			leaf("connect-timeout", "seconds for a TCP connection to a server", integer(1, 300)).or("10"),
			leaf("idle-timeout", "seconds without a byte either way after which a connection ends", integer(10, 86400)).or("3600"),
		),
	)
}
