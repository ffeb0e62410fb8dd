package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"moongate/client"
)

// importedKey is what `cmu importkey` made.
type importedKey struct {
	Kind    string   `json:"kind"`
	ID      string   `json:"id"`
	Private madeKey  `json:"private"`
	Public  *madeKey `json:"public"`
}

// importKey is `cmu importkey`.
func (t *tool) importKey(ctx context.Context, o options) error {
	file, err := t.askInput(o)
	if err != nil {
		return err
	}
	content, err := t.readInput(file)
	if err != nil {
		return err
	}
	defer clear(content)
	private, public, err := parsePrivateKey(content)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	template, err := t.importTemplate(o, public)
	if err != nil {
		return err
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	made, err := s.importPair(ctx, private, public, template)
	if err != nil {
		return err
	}
	if o.flag("json", false) {
		return t.con.printJSON(made)
	}
	t.con.printf("Key imported into the HSM: %s\n  public key   handle=%d\tlabel=%s\n  private key  handle=%d\tlabel=%s\n",
		made.Kind, made.Public.Handle, shown(made.Public.Label), made.Private.Handle, shown(made.Private.Label))
	t.con.warn("this key has lived outside of the HSM, and says so (CKA_LOCAL=F): its other copies, %s among them, are as good as this one; destroy them", file)
	return nil
}

// importPair stores both halves.
func (s *session) importPair(ctx context.Context, private any, public crypto.PublicKey, template client.Template) (importedKey, error) {
	id, err := s.ImportKey(ctx, private, template)
	if err != nil {
		return importedKey{}, fmt.Errorf("importing the private key: %w", err)
	}
	e, err := s.object(ctx, id)
	if err != nil {
		return importedKey{}, fmt.Errorf("the private key is imported; reading its handle: %w", err)
	}
	keyID, _ := e.Attributes.Get(client.AttrID)
	publicID, err := s.StorePublicKey(ctx, public, client.NewTemplate(
		client.TextAttr(client.AttrLabel, e.label()), client.BytesAttr(client.AttrID, keyID)))
	if err != nil {
		return importedKey{}, fmt.Errorf("the private key is imported, handle=%d; storing its public half: %w", e.handle, err)
	}
	p, err := s.object(ctx, publicID)
	if err != nil {
		return importedKey{}, fmt.Errorf("both halves are imported; reading the public one's handle: %w", err)
	}
	return importedKey{
		Kind: e.kind(), ID: hex.EncodeToString(keyID),
		Private: madeKey{e.handle, e.ID, e.label()}, Public: &madeKey{p.handle, p.ID, p.label()},
	}, nil
}

// importTemplate is what the private key may do: as `cmu gen` makes it.
func (t *tool) importTemplate(o options, public crypto.PublicKey) (client.Template, error) {
	agrees := keyWords(public) == "X25519"
	var plan keyPlan
	if agrees {
		o["sign"], o["derive"] = "F", "T"
	}
	if err := t.describeKey(&plan, o, strings.ToLower(strings.ReplaceAll(keyWords(public), "-", ""))); err != nil {
		return nil, err
	}
	return plan.private, nil
}

// parsePrivateKey reads a private key as PKCS#8, or in the older forms of
// OpenSSL, PEM or DER.
func parsePrivateKey(content []byte) (private any, public crypto.PublicKey, err error) {
	block, _ := pem.Decode(content)
	if block == nil {
		block = &pem.Block{Type: "PRIVATE KEY", Bytes: content}
	}
	defer clear(block.Bytes)
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, nil, &fixError{errors.New("the key is encrypted"), "decrypt it on a machine that you trust: openssl pkcs8 -in FILE"}
	default:
		return nil, nil, &fixError{fmt.Errorf("it holds a block %q, expected PRIVATE KEY", block.Type), "give a private key as PKCS#8"}
	}
	if err != nil || block.Headers["DEK-Info"] != "" {
		// The parser's own words may quote the key.
		return nil, nil, &fixError{errors.New("it holds no private key that can be read"), "give a private key as PKCS#8, PEM or DER, not encrypted"}
	}
	signer, is := private.(interface{ Public() crypto.PublicKey })
	if !is {
		return nil, nil, fmt.Errorf("keys of type %T are not known", private)
	}
	return private, signer.Public(), nil
}
