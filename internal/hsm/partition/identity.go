package partition

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// An HSM is known to others by a key of its own (ECDSA with P-256), which signs
// what it sends them. It is made when it is first asked for, is sealed with the
// store's records, and is in no backup: an HSM that another's backup is restored
// on is another HSM. A zeroization destroys it.

// identityRecord is the HSM's key pair: Key is PKCS#8, Certificate DER.
type identityRecord struct {
	Key         []byte `json:"key"`
	Certificate []byte `json:"certificate"`
}

// identity is the HSM to its peers.
type identity struct {
	id          object.HSMID
	certificate []byte
	key         *ecdsa.PrivateKey
}

func hsmID(certificate []byte) object.HSMID { return sha256.Sum256(certificate) }

// HSMIdentity returns the certificate (DER) by which other HSMs know this one,
// and its fingerprint. It says nothing secret. ErrNotInitialized where there is
// no HSM.
func (h *HSM) HSMIdentity() ([]byte, object.HSMID, error) {
	if _, err := h.current(); err != nil {
		return nil, object.HSMID{}, err
	}
	return h.identityOf()
}

// identityOf is HSMIdentity for who knows that there is an HSM: HSM.mu may be
// held.
func (h *HSM) identityOf() ([]byte, object.HSMID, error) {
	record, err := h.identityRecord()
	if err != nil {
		return nil, object.HSMID{}, err
	}
	clear(record.Key)
	return record.Certificate, hsmID(record.Certificate), nil
}

// identity reads the HSM's identity, with its key.
func (h *HSM) identity() (*identity, error) {
	record, err := h.identityRecord()
	if err != nil {
		return nil, err
	}
	defer clear(record.Key)
	key, err := x509.ParsePKCS8PrivateKey(record.Key)
	if err != nil {
		return nil, errors.New("the HSM's identity is malformed; restore the store from a copy")
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the HSM's identity is no ECDSA key; restore the store from a copy")
	}
	return &identity{hsmID(record.Certificate), record.Certificate, private}, nil
}

// identityRecord reads the identity, and makes it where there is none.
func (h *HSM) identityRecord() (*identityRecord, error) {
	record := new(identityRecord)
	err := h.store.View(func(tx *store.Tx) error { return load(tx, kindIdentity, kindIdentity, record) })
	if !errors.Is(err, store.ErrNotFound) {
		return record, err
	}
	fresh, err := newIdentity(h.serial, h.now())
	if err != nil {
		return nil, err
	}
	err = h.store.Update(func(tx *store.Tx) error {
		*record = identityRecord{}
		err := load(tx, kindIdentity, kindIdentity, record) // another was faster
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var hsm hsmRecord
		if err := loadHSM(tx, &hsm); err != nil {
			return err
		}
		clear(hsm.Domain)
		*record = *fresh
		return save(tx, kindIdentity, kindIdentity, record)
	})
	return record, err
}

// newIdentity makes a key and a certificate that says nothing but whose it is.
// Peers pin it as it is and ask no clock, so it does not expire (RFC 5280,
// section 4.1.2.5).
func newIdentity(serial string, now time.Time) (*identityRecord, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the HSM's identity: %w", err)
	}
	number := make([]byte, 16)
	rand.Read(number)  // never fails: the program ends instead
	number[0] &= 0x7f  // positive
	number[15] |= 0x01 // not 0
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(number),
		Subject:      pkix.Name{CommonName: "moongate-hsm " + serial},
		NotBefore:    now.UTC().Truncate(time.Second),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making the HSM's identity: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("making the HSM's identity: %w", err)
	}
	return &identityRecord{private, der}, nil
}

// parseIdentity reads an identity's certificate, as another HSM made it.
func parseIdentity(der []byte) (*ecdsa.PublicKey, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, object.Errorf(object.ErrDataInvalid, "it is not the certificate of an HSM's identity: %v", err)
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, object.Errorf(object.ErrDataInvalid, "it is the certificate of %s, and not that of an HSM's identity, which has an ECDSA key with P-256", cert.Subject)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return nil, object.Errorf(object.ErrDataInvalid, "the certificate of %s is not signed by its own key, as that of an HSM's identity is", cert.Subject)
	}
	return key, nil
}
