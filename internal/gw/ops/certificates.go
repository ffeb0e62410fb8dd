package ops

import (
	"context"
	"strconv"
	"strings"

	"moongate/internal/gw/mgmt"
)

func certificateCommands() []*Command {
	name := Arg{Name: "certificate-name", Required: true, Value: "name", Help: "The certificate's name", known: knownCertificates}
	return []*Command{
		{Words: "show certificate all", Help: "Show the certificates, their keys and when they expire", run: showCertificates},
		{Words: "show certificate name", Help: "Show one certificate", Args: []Arg{
			{Name: "name", Bare: true, Required: true, Help: "The certificate's name", known: knownCertificates}}, run: showCertificate},
		{Words: "request certificate generate", Help: "Make a key pair and a certificate", Args: []Arg{
			{Name: "certificate-name", Required: true, Value: "name", Help: "What it is called in the configuration"},
			{Name: "name", Required: true, Value: "common-name", Help: "Its common name"},
			{Name: "algorithm", Kind: Choice, Help: "The kind of key, RSA by default", Choices: []Option{
				{"RSA", "RSA"}, {"ECDSA", "An elliptic curve of NIST"}}},
			{Name: "rsa-nbits", Kind: Choice, Help: "Bits of an RSA key, 2048 by default", Choices: []Option{{"2048", ""}, {"3072", ""}, {"4096", ""}}},
			{Name: "ecdsa-nbits", Kind: Choice, Help: "Bits of an ECDSA key, 256 by default", Choices: []Option{{"256", "P-256"}, {"384", "P-384"}}},
			{Name: "digest", Kind: Choice, Help: "The hash that is signed, sha256 by default", Choices: []Option{{"sha256", ""}, {"sha384", ""}, {"sha512", ""}}},
			{Name: "ca", Kind: Choice, Choices: yesOrNo, Help: "Whether it may sign others, no by default"},
			{Name: "days-till-expiry", Kind: Number, Min: 1, Max: 7300, Value: "1-7300", Help: "Days, 365 by default"},
			{Name: "signed-by", Value: "name", Help: "The CA that signs it: a certificate's name, or external for a request; itself by default", known: knownCertificates},
			{Name: "key-on-hsm", Kind: Choice, Choices: yesOrNo, Help: "Whether the key is made on the HSM, and stays there; no by default"},
			{Name: "country-code", Value: "two-letters", Help: "C of the subject"},
			{Name: "state", Help: "ST of the subject"},
			{Name: "locality", Help: "L of the subject"},
			{Name: "organization", Help: "O of the subject"},
			{Name: "organization-unit", Value: "unit", Help: "OU of the subject"},
			{Name: "hostname", Kind: List, Value: "name", Help: "Host names of the server"},
			{Name: "ip", Kind: List, Value: "address", Help: "IP addresses of the server"},
			{Name: "email", Value: "address", Help: "The e-mail address of the subject"},
			{Name: "alt-email", Kind: List, Value: "address", Help: "E-mail addresses"},
		}, run: generate},
		{Words: "request certificate import", Help: "Import a certificate, its private key or both from a file that you brought by scp", Args: []Arg{
			{Name: "certificate-name", Required: true, Value: "name", Help: "What it is called in the configuration"},
			{Name: "file", Required: true, Help: "The file's name", known: knownFiles},
			{Name: "format", Kind: Choice, Help: "Its format; found out by default", Choices: []Option{{"pem", "PEM"}, {"der", "DER"}, {"pkcs12", "PKCS #12"}}},
			{Name: "part", Kind: Choice, Help: "What is imported, the certificate by default", Choices: []Option{
				{string(mgmt.ImportCertificate), "The certificate, and its key where the file has it"},
				{string(mgmt.ImportKey), "The key of a certificate that is there"},
				{string(mgmt.ImportPair), "Both"}}},
			{Name: "passphrase", Kind: Secret, Prompt: "Enter passphrase", Help: "The passphrase of what is encrypted in the file"},
			{Name: "private-key-on-hsm", Kind: Choice, Choices: yesOrNo, Help: "Whether the private key resides on the HSM: it is looked for there, and tried; no by default"},
		}, run: importCertificate},
		{Words: "request certificate renew", Help: "Make the certificate anew with its key", Args: []Arg{name,
			{Name: "days-till-expiry", Kind: Number, Min: 1, Max: 7300, Value: "1-7300", Help: "Days, 365 by default"}}, run: renew},
		{Words: "request certificate revoke", Help: "Mark a certificate as revoked", Args: []Arg{name}, run: revoke},
		{Words: "test hsm key", Help: "Have a certificate's private key sign, and verify the signature", Args: []Arg{
			{Name: "certificate-name", Bare: true, Required: true, Value: "name", Help: "A certificate of the running configuration", known: knownCertificates},
		}, run: testKey},
		{Words: "request certificate csr", Help: "Show the request for a certificate, for another CA to sign", Args: []Arg{name}, run: csr},
	}
}

func showCertificates(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.CertificateStates(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("certificates"), newGrid("Name", "Subject", "Issuer", "Algorithm", "CA", "Key", "Status", "Expires")
	for _, c := range list {
		e.Add(Entry(c.Name, certificateFields(c)...))
		g.row(c.Name, c.Subject, c.Issuer, c.Algorithm, yesNo(c.CA), c.Key, certificateStatus(c), stamp(c.NotAfter))
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func showCertificate(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.CertificateStates(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.Name == in.Value("name") {
			fields := certificateFields(c)
			text := T("name", c.Name)
			return &Result{Elements: []*Element{Entry(c.Name, fields...)}, Text: pairs(append([]*Element{text}, fields...)...)}, nil
		}
	}
	return nil, refusal(mgmt.CodeNotPresent, "certificate %s is not in the candidate configuration", shown(in.Value("name")))
}

func certificateStatus(c mgmt.CertificateState) string {
	switch {
	case c.Pending:
		return "pending"
	case c.Revoked:
		return "revoked"
	}
	return "valid"
}

func certificateFields(c mgmt.CertificateState) []*Element {
	return []*Element{
		T("subject", c.Subject), T("issuer", c.Issuer), T("algorithm", c.Algorithm), T("ca", yesNo(c.CA)),
		T("not-valid-before", stamp(c.NotBefore)), T("not-valid-after", stamp(c.NotAfter)),
		T("status", certificateStatus(c)), T("key", c.Key), T("used-by", strings.Join(c.UsedBy, ", ")),
	}
}

// defaultBits are those of a key whose size is not said.
var defaultBits = map[string]int{"RSA": 2048, "ECDSA": 256}

func generate(ctx context.Context, in *invocation) (*Result, error) {
	algorithm := in.Value("algorithm")
	if algorithm == "" {
		algorithm = "RSA"
		if in.Has("ecdsa-nbits") {
			algorithm = "ECDSA"
		}
	}
	bits, own, other := defaultBits[algorithm], "rsa-nbits", "ecdsa-nbits"
	if algorithm == "ECDSA" {
		own, other = other, own
	}
	if in.Has(other) {
		return nil, refusal(mgmt.CodeInvalidCommand, "request -> certificate -> generate: %s is not of the algorithm %s, expected %s", other, algorithm, own)
	}
	if n := number(in, own); n > 0 {
		bits = n
	}
	names := append(append(append([]string(nil), in.Values("hostname")...), in.Values("ip")...), in.Values("alt-email")...)
	name := in.Value("certificate-name")
	err := in.m.GenerateCertificate(ctx, in.caller, mgmt.GenerateRequest{
		Name: name, CommonName: in.Value("name"),
		Organization: in.Value("organization"), OrganizationalUnit: in.Value("organization-unit"), Locality: in.Value("locality"),
		State: in.Value("state"), Country: in.Value("country-code"), Email: in.Value("email"),
		Names: names, Algorithm: algorithm, Bits: bits, Digest: in.Value("digest"),
		CA: in.Value("ca") == "yes", OnHSM: in.Value("key-on-hsm") == "yes",
		SignedBy: in.Value("signed-by"), Days: number(in, "days-till-expiry"),
	})
	if err != nil {
		return nil, err
	}
	if in.Value("signed-by") == "external" {
		return message("Successfully generated key pair and signing request : %s", name), nil
	}
	return message("Successfully generated certificate and key pair : %s", name), nil
}

func importCertificate(ctx context.Context, in *invocation) (*Result, error) {
	name, passphrase := in.Value("certificate-name"), []byte(in.Value("passphrase"))
	defer clear(passphrase)
	data, err := in.m.File(ctx, in.caller, in.Value("file"))
	if err != nil {
		return nil, err
	}
	defer clear(data)
	err = in.m.ImportCertificate(ctx, in.caller, mgmt.ImportRequest{
		Name: name, Format: in.Value("format"), Data: data, Passphrase: passphrase,
		KeyOnHSM: in.Value("private-key-on-hsm") == "yes", Kind: mgmt.ImportKind(or(in.Value("part"), string(mgmt.ImportCertificate))),
	})
	if err != nil {
		return nil, err
	}
	return message("Successfully imported %s into candidate configuration", name), nil
}

func renew(ctx context.Context, in *invocation) (*Result, error) {
	name, days := in.Value("certificate-name"), number(in, "days-till-expiry")
	if err := in.m.RenewCertificate(ctx, in.caller, name, days); err != nil {
		return nil, err
	}
	if days == 0 {
		days = 365
	}
	return message("Successfully renewed certificate %s for %s days", name, strconv.Itoa(days)), nil
}

func revoke(ctx context.Context, in *invocation) (*Result, error) {
	if err := in.m.RevokeCertificate(ctx, in.caller, in.Value("certificate-name")); err != nil {
		return nil, err
	}
	return message("Successfully revoked certificate %s", in.Value("certificate-name")), nil
}

func csr(ctx context.Context, in *invocation) (*Result, error) {
	text, err := in.m.CSR(ctx, in.caller, in.Value("certificate-name"))
	if err != nil {
		return nil, err
	}
	return &Result{Elements: []*Element{T("csr", string(text))}, Text: string(text)}, nil
}

func knownCertificates(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	list, err := m.CertificateStates(ctx, c)
	if err != nil {
		return nil // the command itself will say why
	}
	var found []Option
	for _, c := range list {
		found = append(found, Option{c.Name, c.Subject})
	}
	return found
}

func testKey(ctx context.Context, in *invocation) (*Result, error) {
	name := in.Value("certificate-name")
	if err := in.m.TestKey(ctx, in.caller, name); err != nil {
		return nil, err
	}
	return message("The private key of %s signs, and the certificate verifies the signature", name), nil
}
