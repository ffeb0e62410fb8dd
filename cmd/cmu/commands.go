package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// command is a row of the command table.
type command struct {
	name    string // one word or two
	aliases []string
	summary string
	detail  string
	options []option
	run     func(*tool, context.Context, options) error
}

// onPartition are the options of every command that logs in.
var onPartition = []option{
	{name: "config", value: "FILE", help: "client configuration; see below"},
	{name: "partition", value: "LABEL", help: "the partition, where the configuration names none or another"},
	{name: "member", value: "NAME", help: "that HSM of the configuration alone, and not the group"},
	{name: "slot", kind: number, value: "0", help: "the configured partition is slot 0, the only one"},
	{name: "role", value: "co|cu", help: "log in as the Crypto Officer (default) or the Crypto User"},
	{name: "passwordFile", value: "FILE", help: "file with the password in its first line, mode 0600"},
	{name: "password", value: "PASSWORD", help: "the password; other users of this machine can see it"},
}

var (
	optConfig = option{name: "config", value: "FILE", help: "client configuration; see below"}
	optJSON   = option{name: "json", kind: flag, help: "print JSON, for scripts"}
)

var optServerName = option{name: "name", value: "NAME", help: "the HSM's name here: letters, digits, dots, dashes, underscores"}

// optMember is the one member that a command on a group is about.
var optMember = option{name: "member", kind: list, value: "NAME", help: "the HSM's name in the configuration"}

// optUser is for commands on a group that change nothing.
var optUser = option{name: "role", value: "co|cu", help: "log in as the Crypto Officer (default) or the Crypto User"}

// optPeers name a partition of another HSM, and who the owner is.
func optPeers() []option {
	return []option{
		{name: "peer", value: "NAME", help: "an HSM of the configuration, which is asked which partition it is"},
		{name: "identity", value: "HEX", help: "or the other HSM, by what `hsm identity show` prints there,"},
		{name: "serial", value: "SERIAL", help: "and the other partition's serial number"},
		{name: "role", value: "co|po", help: "log in as the Crypto Officer (default) or the Partition Security Officer"},
	}
}

// optTarget is the role that a command is about; who logs in for it follows.
var optTarget = option{name: "role", value: "po|co|cu", help: "po, the Partition Security Officer, co, the Crypto Officer, or cu, the Crypto User"}

// onConnection are the options of a command that chooses its own login.
func onConnection(list ...option) []option {
	for _, o := range onPartition {
		if o.name != "role" {
			list = append(list, o)
		}
	}
	return list
}

// onGroup are the options of the commands on a group, which log in as its Crypto
// Officer.
func onGroup(list ...option) []option {
	for _, o := range onConnection() {
		if o.name != "member" && o.name != "slot" {
			list = append(list, o)
		}
	}
	return list
}

func loggedIn(list ...option) []option { return append(list, onPartition...) }

// commands is the whole of what cmu does, in the order in which help lists it.
// It is a function since the commands' help refers to the table.
func commands() []*command {
	return []*command{
		{
			name: "gen", aliases: []string{"generatekeypair", "generate"},
			summary: "make a key pair on the HSM",
			detail:  "The private key is made inside the HSM, sensitive and not extractable, and stays there.",
			options: loggedIn(
				option{name: "keyType", value: "RSA|ECDSA|ED25519|X25519", help: "ECDSA is also EC; RSA where -modulusBits is given, ECDSA where -curve is"},
				option{name: "modulusBits", kind: number, value: "2048", help: "RSA: 2048, 3072 or 4096"},
				option{name: "publicExp", kind: number, value: "65537", help: "RSA: the public exponent; 65537 is the one the HSM makes"},
				option{name: "curve", aliases: []string{"curvetype"}, value: "P-256", help: "ECDSA: P-256, P-384 or P-521"},
				option{name: "label", value: "LABEL", help: "of both halves; otherwise made from type and time"},
				option{name: "labelPublic", value: "LABEL", help: "of the public key alone"},
				option{name: "labelPrivate", value: "LABEL", help: "of the private key alone"},
				option{name: "id", value: "HEX", help: "CKA_ID of both halves; otherwise a hash of the public key"},
				option{name: "sign", kind: flag, value: "T", help: "the private key may sign (default T)"},
				option{name: "verify", kind: flag, value: "T", help: "the public key may verify (default T)"},
				option{name: "decrypt", kind: flag, value: "F", help: "the private key may decrypt: RSA key exchange (default F)"},
				option{name: "encrypt", kind: flag, value: "F", help: "the public key may encrypt (default F)"},
				option{name: "unwrap", kind: flag, value: "F", help: "the private key may unwrap (default F)"},
				option{name: "wrap", kind: flag, value: "F", help: "the public key may wrap (default F)"},
				option{name: "derive", kind: flag, value: "F", help: "the private key may agree on secrets (default F; X25519: T)"},
				option{name: "extractable", kind: flag, value: "F", help: "the private key may leave wrapped, where the partition's policy allows it"},
				option{name: "startDate", value: "YYYYMMDD", help: "the first day (UTC) on which the private key may be used"},
				option{name: "endDate", value: "YYYYMMDD", help: "the last one"},
				optJSON),
			run: (*tool).generate,
		},
		{
			name: "list", aliases: []string{"ls"},
			summary: "list the partition's objects",
			detail:  "One line each, `handle=61<TAB>label=mykey`, by handle. A handle is never used again.",
			options: loggedIn(
				option{name: "class", value: "CLASS", help: "only private, public, certificate or secret"},
				option{name: "label", value: "LABEL", help: "only objects with this label"},
				option{name: "json", kind: flag, help: "print everything that may be known of each, as JSON"}),
			run: (*tool).list,
		},
		{
			name:    "selfSign",
			summary: "make a self-signed certificate for a key pair",
			detail: "The certificate is signed in the HSM and stored next to its key. It is a CA certificate, as\n" +
				"decryption needs, unless -ca=F. With several key pairs the newest without a certificate is\n" +
				"the default.",
			options: loggedIn(
				option{name: "CN", value: "NAME", help: "common name"},
				option{name: "C", value: "XX", help: "country, two letters"},
				option{name: "O", value: "NAME", help: "organisation"},
				option{name: "OU", value: "NAME", help: "organisational unit"},
				option{name: "L", value: "NAME", help: "locality"},
				option{name: "ST", aliases: []string{"S"}, value: "NAME", help: "state or province"},
				option{name: "E", value: "ADDRESS", help: "e-mail address"},
				option{name: "startDate", value: "YYYYMMDD", help: "first day of validity (UTC); otherwise it begins now"},
				option{name: "endDate", value: "YYYYMMDD", help: "last day of validity (UTC); otherwise 10 years, or 397 days for -ca=F"},
				option{name: "serialNumber", aliases: []string{"serialNum"}, value: "HEX", help: "at most 20 bytes; otherwise random"},
				option{name: "ca", kind: flag, value: "T", help: "F makes a server certificate"},
				option{name: "san", value: "NAMES", help: "with -ca=F: host names and addresses, comma between; otherwise the CN"},
				option{name: "privatehandle", kind: number, value: "HANDLE", help: "the private key"},
				option{name: "publichandle", kind: number, value: "HANDLE", help: "or its public key"},
				option{name: "label", value: "LABEL", help: "of the certificate; otherwise the key's"},
				option{name: "sha256withrsa", kind: flag, help: "sign with SHA-256 and RSA, the default for RSA keys"},
				option{name: "sha256withecdsa", kind: flag, help: "sign with SHA-256 and ECDSA, the default for P-256 (P-384: SHA-384)"},
				optJSON),
			run: (*tool).selfSign,
		},
		{
			name: "requestcertificate", aliases: []string{"request"},
			summary: "make a certificate request (PKCS#10) for a key pair",
			detail:  "The request is signed in the HSM. The certificate that comes back is stored with `cmu import`.",
			options: loggedIn(
				option{name: "CN", value: "NAME", help: "common name"},
				option{name: "C", value: "XX", help: "country, two letters"},
				option{name: "O", value: "NAME", help: "organisation"},
				option{name: "OU", value: "NAME", help: "organisational unit"},
				option{name: "L", value: "NAME", help: "locality"},
				option{name: "ST", aliases: []string{"S"}, value: "NAME", help: "state or province"},
				option{name: "E", value: "ADDRESS", help: "e-mail address"},
				option{name: "san", value: "NAMES", help: "host names and addresses, comma between; otherwise the CN where it is one"},
				option{name: "privatehandle", kind: number, value: "HANDLE", help: "the private key"},
				option{name: "publichandle", kind: number, value: "HANDLE", help: "or its public key"},
				option{name: "sha256withrsa", kind: flag, help: "sign with SHA-256 and RSA, the default for RSA keys"},
				option{name: "sha256withecdsa", kind: flag, help: "sign with SHA-256 and ECDSA, the default for P-256"},
				option{name: "outputFile", value: "FILE", help: "where to, PEM; - is standard output"},
				option{name: "force", kind: flag, help: "replace a file that is there"}),
			run: (*tool).request,
		},
		{
			name:    "import",
			summary: "store certificates on the HSM",
			detail: "PEM or DER; a PEM file may hold a chain. A certificate whose private key is on the partition\n" +
				"gets its label and CKA_ID.",
			options: loggedIn(
				option{name: "inputFile", value: "FILE", help: "the certificate; - is standard input"},
				option{name: "label", value: "LABEL", help: "of the first one; otherwise its key's, or its common name"},
				optJSON),
			run: (*tool).importCertificate,
		},
		{
			name:    "importkey",
			summary: "bring a private key into the HSM that was made elsewhere",
			detail: "PKCS#8 (or OpenSSL's older forms), PEM or DER, not encrypted. The key is wrapped on this host for\n" +
				"the HSM, and travels so. It has lived outside, which the HSM notes for ever (CKA_LOCAL=F): make keys\n" +
				"on the HSM (`cmu gen`) where you can.",
			options: loggedIn(
				option{name: "inputFile", value: "FILE", help: "the private key; - is standard input"},
				option{name: "label", value: "LABEL", help: "of both halves; otherwise made from type and time"},
				option{name: "id", value: "HEX", help: "CKA_ID of both halves; otherwise a hash of the public key"},
				option{name: "sign", kind: flag, value: "T", help: "it may sign (default T)"},
				option{name: "decrypt", kind: flag, value: "F", help: "it may decrypt (default F)"},
				option{name: "unwrap", kind: flag, value: "F", help: "it may unwrap (default F)"},
				option{name: "derive", kind: flag, value: "F", help: "it may agree on secrets (default F; X25519: T)"},
				option{name: "extractable", kind: flag, value: "F", help: "it may leave wrapped, where the partition's policy allows it"},
				option{name: "startDate", value: "YYYYMMDD", help: "the first day (UTC) on which it may be used"},
				option{name: "endDate", value: "YYYYMMDD", help: "the last one"},
				optJSON),
			run: (*tool).importKey,
		},
		{
			name:    "sign",
			summary: "sign a file in the HSM",
			detail:  "The signature is as OpenSSL's: `openssl dgst -sha256 -verify KEY -signature FILE.sig FILE` checks it.",
			options: loggedIn(
				option{name: "inputFile", value: "FILE", help: "what to sign; - is standard input"},
				option{name: "outputFile", value: "FILE", help: "where to; otherwise the file's name and .sig; - is standard output"},
				option{name: "handle", aliases: []string{"privatehandle"}, kind: number, value: "HANDLE", help: "the private key"},
				option{name: "hash", value: "sha256", help: "sha256, sha384 or sha512; not for Ed25519"},
				option{name: "pss", kind: flag, value: "F", help: "RSA: PSS instead of PKCS #1 v1.5, with a salt as long as the digest"},
				option{name: "force", kind: flag, help: "replace a file that is there"}),
			run: (*tool).signFile,
		},
		{
			name:    "partition show",
			summary: "the partition's roles and policies",
			options: onConnection(optJSON),
			run:     (*tool).partitionShow,
		},
		{
			name:    "partition init",
			summary: "become the Partition Security Officer of a partition that has none",
			detail:  "From then on the HSM's own Security Officer can delete the partition, and nothing else.",
			options: onConnection(),
			run:     (*tool).partitionInit,
		},
		{
			name: "partition changePolicy", aliases: []string{"partition setPolicy"},
			summary: "set a policy of the partition, as its Partition Security Officer",
			options: onConnection(
				option{name: "policy", value: "POLICY", help: "its name or number; see `cmu partition show`"},
				option{name: "value", value: "VALUE", help: "on, off, or a number"}),
			run: (*tool).partitionPolicy,
		},
		{
			name:    "partition deactivate",
			summary: "let the keys of an activated partition leave the HSM's memory",
			options: loggedIn(),
			run:     (*tool).partitionDeactivate,
		},
		{
			name:    "partition peer add",
			summary: "let the partition clone with one of another HSM, which has to list this one too",
			detail:  "HSMs that the HSM's Security Officer has pinned alone can be named. `cmu ha create` does this by itself.",
			options: onConnection(optPeers()...),
			run:     (*tool).peerAdd,
		},
		{
			name:    "partition peer remove",
			summary: "end the partition's cloning with one of another HSM",
			options: onConnection(optPeers()...),
			run:     (*tool).peerRemove,
		},
		{
			name:    "partition peer list",
			summary: "which partition this is, and with which others it clones",
			options: onConnection(optJSON),
			run:     (*tool).peerList,
		},
		{
			name:    "ha create",
			summary: "make a high-availability group of partitions on several HSMs",
			detail: "The HSMs have pinned each other and are of one domain; docs/ha-administration.md goes the whole way.\n" +
				"From then on cmu works on the group. Where the HSMs hold this group already, it is taken over.",
			options: onGroup(
				option{name: "label", value: "LABEL", help: "the group's name, at most 31 characters"},
				option{name: "member", kind: list, value: "NAME,NAME", help: "HSMs of the configuration; otherwise all. It may be given more than once"},
				option{name: "retry", aliases: []string{"autoRecoveryRetry"}, kind: number, value: "0", help: "Auto Recovery Retry: how often a lost connection is tried before its calls go elsewhere, 0 to 500"},
				option{name: "noReturn", kind: flag, value: "F", help: "a member that was lost comes back by `cmu ha recover` alone"},
				optJSON),
			run: (*tool).haCreate,
		},
		{
			name:    "ha add",
			summary: "take one more HSM into the group, and bring its partition up",
			options: onGroup(optMember, optJSON),
			run:     (*tool).haAdd,
		},
		{
			name:    "ha remove",
			summary: "take a member out of the group; it need not be there",
			options: onGroup(optMember, option{name: "force", kind: flag, help: "do not ask"}, optJSON),
			run:     (*tool).haRemove,
		},
		{
			name:    "ha replace",
			summary: "let another HSM take a member's place at once, also of two of which one is gone",
			options: onGroup(optMember, option{name: "by", value: "NAME", help: "the HSM of the configuration that takes its place"}, optJSON),
			run:     (*tool).haReplace,
		},
		{
			name:    "ha delete",
			summary: "end the group; every member keeps its keys",
			options: onGroup(option{name: "force", kind: flag, help: "do not ask"}, optJSON),
			run:     (*tool).haDelete,
		},
		{
			name:    "ha list",
			summary: "the group and its members, as their record has them",
			options: onGroup(optUser, optJSON),
			run:     (*tool).haList,
		},
		{
			name:    "ha status",
			summary: "how each member stands, and what to do about it",
			options: onGroup(optUser, optJSON),
			run:     (*tool).haStatus,
		},
		{
			name: "ha synchronize", aliases: []string{"ha sync"},
			summary: "bring every member that is there to the same objects",
			options: onGroup(optJSON),
			run:     (*tool).haSynchronize,
		},
		{
			name:    "ha recover",
			summary: "try members that are away at once, and synchronize",
			options: onGroup(optJSON),
			run:     (*tool).haRecover,
		},
		{
			name:    "role init",
			summary: "make the Crypto Officer (as Partition Security Officer) or the Crypto User (as Crypto Officer)",
			options: onConnection(optTarget),
			run:     (*tool).roleInit,
		},
		{
			name:    "role changePw",
			summary: "change a role's password, by its old one",
			options: onConnection(optTarget),
			run:     (*tool).roleChangePassword,
		},
		{
			name:    "role reset",
			summary: "give a role whose password is lost a new one, and keep the keys, where the policy allows it",
			options: onConnection(optTarget),
			run:     (*tool).roleReset,
		},
		{
			name:    "role unlock",
			summary: "let a role log in again that too many wrong passwords locked",
			options: onConnection(optTarget),
			run:     (*tool).roleUnlock,
		},
		{
			name: "getattribute", aliases: []string{"getattributes"},
			summary: "show what may be known of an object",
			options: loggedIn(
				option{name: "handle", kind: number, value: "HANDLE", help: "which object"},
				option{name: "attribute", value: "NAME", help: "only this one: CKA_LABEL, LABEL or 0x3"},
				optJSON),
			run: (*tool).getAttribute,
		},
		{
			name:    "setattribute",
			summary: "change an object's label, CKA_ID or dates",
			options: loggedIn(
				option{name: "handle", kind: number, value: "HANDLE", help: "which object"},
				option{name: "label", value: "LABEL", help: "its label"},
				option{name: "id", value: "HEX", help: "its CKA_ID"},
				option{name: "startDate", value: "YYYYMMDD", help: "a key's first day of use (UTC); none takes it away"},
				option{name: "endDate", value: "YYYYMMDD", help: "a key's last day of use; none takes it away"},
				option{name: "attribute", value: "NAME", help: "or any attribute, by name,"},
				option{name: "value", value: "VALUE", help: "and its value: text, number, T or F, YYYYMMDD, or hexadecimal"}),
			run: (*tool).setAttribute,
		},
		{
			name:    "export",
			summary: "write a certificate, or a public key, to a file",
			detail:  "PEM, mode 0644. With one certificate on the partition that one is meant.",
			options: loggedIn(
				option{name: "handle", kind: number, value: "HANDLE", help: "which object"},
				option{name: "outputFile", value: "FILE", help: "where to; - is standard output"},
				option{name: "key", kind: flag, help: "the public key instead of the certificate"},
				option{name: "force", kind: flag, help: "replace a file that is there"}),
			run: (*tool).export,
		},
		{
			name:    "delete",
			summary: "destroy an object for ever",
			options: loggedIn(
				option{name: "handle", kind: number, value: "HANDLE", help: "which object"},
				option{name: "force", kind: flag, help: "do not ask"}),
			run: (*tool).destroy,
		},
		{
			name:    "client init",
			summary: "make this host's client certificate and configuration",
			detail: "The certificate is named after the address, as the HSM expects it. What to do next on the\n" +
				"HSM is printed.",
			options: []option{
				optConfig,
				{name: "name", value: "NAME", help: "the client's name on the HSM; otherwise this host's"},
				{name: "ip", value: "ADDRESS", help: "the address that the HSM sees this host come from"},
				{name: "hostname", value: "HOST", help: "or its host name, which the HSM resolves"},
				{name: "force", kind: flag, help: "replace the certificate; the new one has to be registered again"},
				optJSON,
			},
			run: (*tool).clientInit,
		},
		{
			name:    "server add",
			summary: "pin an HSM's certificate and note its address",
			detail: "From then on only a server with this very certificate is the HSM. Without -name it is the first HSM,\n" +
				"or the only one; further ones need a name.",
			options: []option{
				optConfig,
				optServerName,
				{name: "address", value: "HOST[:PORT]", help: "the HSM; port 1792 where none is given"},
				{name: "certificate", value: "FILE", help: "its server.pem"},
				{name: "partition", value: "LABEL", help: "the partition to use; not needed if one alone is assigned"},
				{name: "force", kind: flag, help: "replace another server"},
				optJSON,
			},
			run: (*tool).serverAdd,
		},
		{
			name:    "server list",
			summary: "list the HSMs that are noted",
			options: []option{optConfig, optJSON},
			run:     (*tool).serverList,
		},
		{
			name:    "server remove",
			summary: "forget an HSM that is no member of a group",
			options: []option{optConfig, optServerName},
			run:     (*tool).serverRemove,
		},
		{
			name:    "verify",
			summary: "walk the whole way to a login and say which step fails; or check a file's signature",
			options: loggedIn(
				option{name: "login", kind: flag, value: "T", help: "F stops before the login, and asks for no password"},
				option{name: "inputFile", value: "FILE", help: "check the signature of this file, made by `cmu sign` or OpenSSL"},
				option{name: "signatureFile", value: "FILE", help: "the signature; otherwise the file's name and .sig"},
				option{name: "handle", kind: number, value: "HANDLE", help: "whose signature: a key, or a certificate"},
				option{name: "hash", value: "sha256", help: "the hash that was signed: sha256, sha384 or sha512"},
				option{name: "pss", kind: flag, value: "F", help: "RSA: the signature is PSS"},
				optJSON),
			run: (*tool).verify,
		},
	}
}

// findCommand takes a command's words off the front of the arguments. Case
// does not matter.
func findCommand(argv []string) (*command, []string, error) {
	table := commands()
	var names []string
	for _, c := range table {
		for _, name := range append([]string{c.name}, c.aliases...) {
			if n := len(strings.Fields(name)); len(argv) >= n && strings.EqualFold(strings.Join(argv[:n], " "), name) {
				return c, argv[n:], nil
			}
			names = append(names, name)
		}
	}
	typed := argv[0]
	if i := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(name, strings.ToLower(typed)+" ") }); i >= 0 {
		return nil, nil, &usageError{fmt.Sprintf("%q is not complete; did you mean `cmu %s`?", strings.Join(argv[:min(2, len(argv))], " "), names[i])}
	}
	return nil, nil, &usageError{fmt.Sprintf("%q is not a command; %s", typed, suggestion("cmu ", nearest(typed, names), "cmu help"))}
}
