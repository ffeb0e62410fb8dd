package partition

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// A domain's file is four lines:
//
//	moongate hsm domain, version 1
//	domain IDENTITY
//	kdf JSON
//	secret HEX
//
// IDENTITY is domainIdentity's; JSON is a mech.KDF; HEX is 120 digits: nonce,
// the secret under AES-256-GCM, tag (store.Seal). The key is what the KDF
// derives from the passphrase; the first three lines are bound to it.
const (
	domainLine   = "moongate hsm domain, version 1\n"
	domainPrefix = "moongate hsm domain, version "

	maxDomainFile = 2 << 10
)

// ExportDomain returns the HSM's domain secret sealed under a passphrase, as a
// text of four lines. Whoever has both can make an HSM that opens every backup
// of the domain.
func (o *Officer) ExportDomain(ctx context.Context, passphrase []byte) ([]byte, error) {
	h := o.h
	var text []byte
	err := o.act(ctx, "domain.export", "", func() error {
		if err := checkPassword(passphrase); err != nil {
			return err
		}
		secret, err := h.domain()
		if err != nil {
			return fmt.Errorf("reading the domain secret: %w", err)
		}
		defer clear(secret)
		return h.derive(ctx, func() (err error) {
			text, err = sealDomain(secret, h.newKDF(h.policy), passphrase)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return text, nil
}

// ImportDomain makes this HSM one of the domain that ExportDomain wrote. It
// must hold no partition (ErrExists): passwords' seals are bound to the domain.
// Backups of the domain that it had before open no more.
func (o *Officer) ImportDomain(ctx context.Context, sealed, passphrase []byte) error {
	h := o.h
	return o.act(ctx, "domain.import", "", func() error {
		var secret []byte
		err := h.derive(ctx, func() (err error) {
			secret, err = openDomain(h.policy, sealed, passphrase)
			return err
		})
		if err != nil {
			return err
		}
		defer clear(secret)
		h.mu.Lock()
		defer h.mu.Unlock()
		if err := h.stillLocked(o.epoch); err != nil {
			return err
		}
		if err := h.checkEmptyLocked(); err != nil {
			return err
		}
		return h.store.Update(func(tx *store.Tx) error {
			var record hsmRecord
			if err := loadHSM(tx, &record); err != nil {
				return err
			}
			record.Domain = secret
			return save(tx, kindHSM, kindHSM, &record)
		})
	})
}

// DomainIdentity names the HSM's domain: 32 hexadecimal digits, which are also
// in the header of its backups and say nothing of the secret.
func (h *HSM) DomainIdentity() (string, error) {
	secret, err := h.domain()
	if err != nil {
		return "", fmt.Errorf("reading the domain secret: %w", err)
	}
	defer clear(secret)
	return domainIdentity(secret)
}

func sealDomain(secret []byte, kdf mech.KDF, passphrase []byte) ([]byte, error) {
	identity, err := domainIdentity(secret)
	if err != nil {
		return nil, err
	}
	parameters, err := json.Marshal(kdf)
	if err != nil {
		return nil, fmt.Errorf("encoding the domain file: %w", err)
	}
	derived, err := kdf.Derive(passphrase)
	if err != nil {
		return nil, fmt.Errorf("deriving from the passphrase: %w", err)
	}
	defer clear(derived[:])
	head := fmt.Appendf(nil, "%sdomain %s\nkdf %s\n", domainLine, identity, parameters)
	return fmt.Appendf(head, "secret %x\n", store.Seal(&derived, head, secret)), nil
}

// domainFile is a domain's file, decoded.
type domainFile struct {
	head     []byte // the lines that are bound to the secret
	identity string
	kdf      mech.KDF
	sealed   []byte
}

func openDomain(policy mech.Policy, text, passphrase []byte) ([]byte, error) {
	f, err := decodeDomain(text)
	if err != nil {
		return nil, err
	}
	if err := policy.CheckKDF(f.kdf); err != nil {
		return nil, err
	}
	derived, err := f.kdf.Derive(passphrase)
	if err != nil {
		return nil, fmt.Errorf("deriving from the passphrase: %w", err)
	}
	defer clear(derived[:])
	secret, ok := store.Unseal(&derived, f.head, f.sealed)
	if !ok {
		return nil, object.Errorf(object.ErrPINIncorrect, "the passphrase of the domain file is wrong, or the file was changed")
	}
	if identity, err := domainIdentity(secret); err != nil || identity != f.identity {
		clear(secret)
		return nil, object.Errorf(object.ErrDataInvalid, "the domain file does not hold the domain that it names")
	}
	return secret, nil
}

// decodeDomain accepts the one encoding that there is.
func decodeDomain(text []byte) (*domainFile, error) {
	malformed := object.Errorf(object.ErrDataInvalid, "this is not the file of a domain, four lines that begin with %q", domainLine[:len(domainLine)-1])
	if len(text) > maxDomainFile {
		return nil, malformed
	}
	if bytes.HasPrefix(text, []byte(domainPrefix)) && !bytes.HasPrefix(text, []byte(domainLine)) {
		return nil, object.Errorf(object.ErrDataInvalid, "the domain file is of a version that is not known; use the version that wrote it, or a newer one")
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) != 5 || len(lines[4]) != 0 || string(lines[0]) != domainLine {
		return nil, malformed
	}
	var fields [3][]byte
	for i, name := range []string{"domain ", "kdf ", "secret "} {
		value, named := bytes.CutPrefix(bytes.TrimSuffix(lines[i+1], []byte("\n")), []byte(name))
		if !named {
			return nil, malformed
		}
		fields[i] = value
	}
	f := &domainFile{head: bytes.Join(lines[:3], nil), identity: string(fields[0])}
	if err := decodeStrict(fields[1], &f.kdf); err != nil {
		return nil, malformed
	}
	sealed, err := hex.DecodeString(string(fields[2]))
	if err != nil || len(sealed) != domainSize+chunkOverhead {
		return nil, malformed
	}
	f.sealed = sealed
	again, err := json.Marshal(f.kdf)
	if err != nil || !bytes.Equal(again, fields[1]) || hex.EncodeToString(sealed) != string(fields[2]) {
		return nil, malformed
	}
	return f, nil
}
