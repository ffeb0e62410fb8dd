package config

import "net/netip"

// hsm reads hsm-settings and the route of the service hsm; nil without an HSM.
func hsm(system view) *HSM {
	settings := system.at("hsm-settings")
	network, module := settings.at("provider", "safenet-network"), settings.at("provider", "pkcs11")
	switch {
	case network.node != nil:
		h := &HSM{Provider: NetworkHSM, Source: source(system.at("route", "service"))}
		for _, e := range network.at("hsm-server").entries() {
			h.Servers = append(h.Servers, HSMServer{e.node.Entry, e.text("server-address"), e.port("port"), e.port("ssh-port")})
		}
		if ha := network.at("ha"); ha.node != nil {
			h.HA = &HSMGroup{Name: ha.text("ha-group-name"), Retry: ha.integer("auto-recovery-retry")}
		}
		if settings.text("client-version") != versionAutomatic {
			h.Version = uint16(settings.integer("client-version"))
		}
		return h
	case module.node != nil:
		return &HSM{Provider: PKCS11HSM, Module: &PKCS11Module{
			Path: module.text("module"), Token: module.text("token"), CryptoUser: module.text("user-type") == tokenCryptoUser,
		}}
	}
	return nil
}

// source is that of the only service that a route can be set for.
func source(services view) HSMSource {
	var s HSMSource
	for _, e := range services.entries() {
		from := e.at("source")
		s.Interface = from.text("interface")
		if text := from.text("address"); text != "" {
			s.Address = netip.MustParseAddr(text) // validated
		}
	}
	return s
}
