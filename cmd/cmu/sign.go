package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"

	"moongate/internal/durable"
)

// hashes are those that a file may be signed with.
var hashes = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

// maxWhole is the longest file that Ed25519 signs: the HSM takes it whole.
const maxWhole = 512 << 10

// signing is how a file is signed.
type signing struct {
	hash crypto.Hash
	pss  bool
}

func signingOf(o options, public crypto.PublicKey) (signing, error) {
	var how signing
	name := o.text("hash")
	if _, whole := public.(ed25519.PublicKey); whole {
		if name != "" || o.has("pss") {
			return how, &usageError{"-hash and -pss do not go with an Ed25519 key, which signs the file whole"}
		}
		return how, nil
	}
	if name == "" {
		name = "sha256"
	}
	hash, known := hashes[strings.ToLower(strings.ReplaceAll(name, "-", ""))]
	if !known {
		return how, &usageError{fmt.Sprintf("-hash=%s; expected sha256, sha384 or sha512", name)}
	}
	how = signing{hash, o.flag("pss", false)}
	if _, isRSA := public.(*rsa.PublicKey); how.pss && !isRSA {
		return how, &usageError{"-pss goes with an RSA key, and this one is " + keyWords(public)}
	}
	return how, nil
}

// digest reads a file: its digest, or for Ed25519 the whole.
func (how signing) digest(t *tool, file string) ([]byte, error) {
	in := io.Reader(t.con.in)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	if how.hash == 0 {
		content, err := io.ReadAll(io.LimitReader(in, maxWhole+1))
		if err == nil && len(content) > maxWhole {
			err = &fixError{fmt.Errorf("%s is longer than %d bytes, which Ed25519 would sign whole", file, maxWhole), "sign its digest, or use another key"}
		}
		return content, err
	}
	h := how.hash.New()
	if _, err := io.Copy(h, in); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return h.Sum(nil), nil
}

func (how signing) options() crypto.SignerOpts {
	if how.pss {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: how.hash}
	}
	return how.hash
}

// signFile is `cmu sign`.
func (t *tool) signFile(ctx context.Context, o options) error {
	file, err := t.askInput(o)
	if err != nil {
		return err
	}
	out := o.text("outputFile")
	if out == "" && file == "-" {
		out = "-"
	} else if out == "" {
		out = file + ".sig"
	}
	if err := mayWrite(out, o); err != nil {
		return err
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	inv, err := s.inventory(ctx, nil)
	if err != nil {
		return err
	}
	if o.has("handle") {
		o["privatehandle"] = o.text("handle")
	}
	p, err := t.choosePair(inv, o)
	if err != nil {
		return err
	}
	key, err := s.Key(ctx, p.private.ID)
	if err != nil {
		return err
	}
	how, err := signingOf(o, key.Public())
	if err != nil {
		return err
	}
	digest, err := how.digest(t, file)
	if err != nil {
		return err
	}
	signature, err := key.WithContext(ctx).Sign(rand.Reader, digest, how.options())
	if err != nil {
		return fmt.Errorf("with key %s: %w", p.words(), err)
	}
	if out == "-" {
		_, err := t.con.out.Write(signature)
		return err
	}
	if err := durable.WriteFile(out, signature, 0o644); err != nil {
		return err
	}
	t.con.printf("Signature of %s by %s written to %s\n", file, p.words(), out)
	return nil
}

// verifyFile is `cmu verify -inputFile=`: with the public key of an object,
// here, since nothing secret is needed.
func (t *tool) verifyFile(ctx context.Context, o options) error {
	file, from := o.text("inputFile"), o.text("signatureFile")
	if from == "" {
		from = file + ".sig"
	}
	signature, err := t.readInput(from)
	if err != nil {
		return err
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	inv, err := s.inventory(ctx, nil)
	if err != nil {
		return err
	}
	e, err := t.verifier(inv, o)
	if err != nil {
		return err
	}
	public, err := x509.ParsePKIXPublicKey(e.publicInfo())
	if err != nil {
		return fmt.Errorf("%s has no public key", e.words())
	}
	how, err := signingOf(o, public)
	if err != nil {
		return err
	}
	digest, err := how.digest(t, file)
	if err != nil {
		return err
	}
	if !how.check(public, digest, signature) {
		return &fixError{fmt.Errorf("%s is no signature of %s by %s", from, file, e.words()), "give the key, -hash and -pss that it was made with"}
	}
	t.con.printf("%s is a signature of %s by %s\n", from, file, e.words())
	return nil
}

// verifier is the object whose public key is used: the one that is named, or
// that of the key pair that `cmu sign` would take.
func (t *tool) verifier(inv inventory, o options) (*entry, error) {
	if o.has("handle") {
		return inv.byHandle(o.number("handle", 0))
	}
	p, err := t.choosePair(inv, o)
	if err != nil {
		return nil, err
	}
	return p.private, nil
}

func (how signing) check(public crypto.PublicKey, digest, signature []byte) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if how.pss {
			return rsa.VerifyPSS(k, how.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(k, how.hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, digest, signature)
	}
	return false
}
