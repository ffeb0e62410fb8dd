package config

import (
	"strings"
	"unicode/utf8"
)

// Limits of the HSM's settings.
const (
	MaxHSMServers = 16
	maxModuleName = 31  // characters of a server's or a group's name
	maxRetries    = 500 // of auto-recovery-retry
	maxTokenLabel = 32  // bytes of a token's label (PKCS #11 section 3.2, CK_TOKEN_INFO)
)

// The words of user-type.
const (
	tokenUser       = "user"
	tokenCryptoUser = "crypto-user"
)

// The words of client-version.
const (
	versionAutomatic = "automatic"
	versionOne       = "1"
)

// hsmTable is hsm-settings: where the private keys are.
func hsmTable() *element {
	return container("hsm-settings", "where the private keys are",
		choice("provider", "the kind of HSM",
			container("none", "no HSM; also when provider is absent"),
			container("safenet-network", "a network HSM",
				hsmServers(),
				container("ha", "a high-availability group of the servers; it needs two of them at least",
					leaf("auto-recovery-retry", "how often a lost connection is tried again before calls go to another server", integer(0, maxRetries)).or("0"),
					leaf("ha-group-name", "the group's name", moduleName(maxModuleName)).need(),
				),
			),
			container("pkcs11", "a PKCS#11 module on this machine, in a process of its own",
				leaf("module", "the module's file", absolutePath()).need(),
				leaf("token", "the label of the token that has the keys", tokenLabel()).need(),
				leaf("user-type", "as which the gateway logs in: user, or crypto-user, whom Thales Luna has beside it and who makes no keys", oneWord(tokenUser, tokenCryptoUser)).or(tokenUser),
			),
		),
		leaf("client-version", "the protocol that is spoken with network HSMs: automatic for the newest that both know, or one version and no other", oneWord(versionAutomatic, versionOne)).or(versionAutomatic),
	)
}

func hsmServers() *element {
	e := entries("hsm-server", "a server; its name is what the administrator calls it. Without ha the first one is used and the others are watched", moduleName(maxModuleName),
		leaf("server-address", "where the server is", host()).need(),
		leaf("port", "its client port", port()).or("1792"),
		leaf("ssh-port", "its administration port, for automatic authentication", port()).or("2022"),
	)
	e.most = MaxHSMServers
	e.needed = true
	return e
}

// interfaceName is a network interface's name as Linux allows it (IFNAMSIZ).
func interfaceName() *value {
	return &value{
		doc: "an interface's name, of at most 15 printable characters of ASCII without spaces, slashes and colons",
		find: finder("not an interface", func(s string) bool {
			return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/:") &&
				!strings.ContainsFunc(s, func(r rune) bool { return r <= 0x20 || r > 0x7e })
		}),
	}
}

// sourceAddress is an address of the machine's own.
func sourceAddress() *value {
	return &value{
		doc: "an IPv4 or IPv6 address of this machine",
		find: finder("not an address that connections can come from", func(s string) bool {
			a, ok := address(s)
			return ok && !a.IsUnspecified() && !a.IsMulticast()
		}),
	}
}

// absolutePath is a file's on this machine.
func absolutePath() *value {
	return &value{
		doc: "the absolute path of a file, of at most 1024 characters",
		find: finder("not an absolute path", func(s string) bool {
			return len(s) > 1 && len(s) <= 1024 && s[0] == '/' && !strings.ContainsFunc(s, isControl)
		}),
	}
}

// tokenLabel is a PKCS#11 token's, which is padded with spaces there.
func tokenLabel() *value {
	return &value{
		doc: "1 to 32 bytes of text",
		find: finder("not a token's label", func(s string) bool {
			return s != "" && len(s) <= maxTokenLabel && utf8.ValidString(s) && !strings.HasSuffix(s, " ") && !strings.ContainsFunc(s, isControl)
		}),
	}
}
