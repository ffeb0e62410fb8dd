package config

// certificates must be certificates, and say one place where the private key is.
func (c *checker) certificates() {
	for _, e := range (view{c.root, schema}).at("shared", "certificate").entries() {
		path := below(certificatesPath, e.node.Entry)
		if e.at("public-key").node == nil && e.at("csr").node == nil {
			c.refuse(path+"/public-key", "missing, expected %s", certificates().doc)
		}
		if e.at("private-key").node != nil && e.yes("private-key-on-hsm") {
			c.refuse(path+"/private-key", "a private key here and on the HSM, expected one of them")
		}
	}
}

// management must leave somebody in who can change the configuration.
func (c *checker) management() {
	if profile := c.root.find(mustPath(DevicePath + "/deviceconfig/system/ssl-tls-service-profile")[1:]); profile != nil {
		path := below(tlsProfilesPath, profile.Text)
		cert := c.key(path+"/certificate", c.s.Management.Certificate)
		if cert != nil && cert.OnHSM {
			c.refuse(path+"/certificate", "a private key on the HSM, got %s, expected one that is here: management is needed when the HSM is away", shown(cert.Name))
		}
		if c.s.Management.MinVersion > c.s.Management.MaxVersion {
			c.refuse(path+"/protocol-settings", "no version, got min-version %s above max-version %s", c.s.Management.MinVersion, c.s.Management.MaxVersion)
		}
	}
	master := false
	for _, a := range c.s.Administrators {
		path := below(usersPath, a.Name)
		opens := a.PasswordHash != "" || len(a.PublicKeys) > 0
		switch {
		case a.Role == "":
			c.refuse(path+"/permissions/role-based", "no role, expected superuser, deviceadmin or superreader")
		case !opens:
			c.warn(path, "has neither a password nor a key: nobody can log in with it")
		}
		master = master || opens && a.Role == Superuser
	}
	if len(c.s.Administrators) > 0 && !master {
		c.refuse(usersPath, "no superuser that can log in, expected one: nobody could change the accounts any more")
	}
}

// forwarding checks whom syslog servers are trusted by.
func (c *checker) forwarding() {
	for _, e := range (view{c.root, schema}).at("shared", "log-settings", "syslog").entries() {
		for _, server := range e.at("server").entries() {
			path := below(below(syslogPath, e.node.Entry)+"/server", server.node.Entry) + "/server-ca"
			name := server.text("server-ca")
			if name == "" {
				continue
			}
			if server.text("transport") != string(SyslogSSL) {
				c.refuse(path, "a CA without SSL, got %s, expected transport SSL", shown(name))
			}
			c.ca(path, name)
		}
	}
}

// ca requires a CA's certificate that is not revoked.
func (c *checker) ca(path, name string) {
	cert := c.named(path, name)
	switch {
	case cert == nil:
	case cert.Revoked:
		c.refuse(path, "a revoked certificate, got %s", shown(name))
	case !cert.Leaf().BasicConstraintsValid || !cert.Leaf().IsCA:
		c.refuse(path, "not a CA certificate, got %s", shown(name))
	}
}
