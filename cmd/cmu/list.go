package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"moongate/client"
)

// listedObject is what `cmu list -json` says of an object.
type listedObject struct {
	Handle      uint64             `json:"handle"`
	UUID        client.ID          `json:"uuid"`
	Class       string             `json:"class"`
	Label       string             `json:"label"`
	ID          string             `json:"id"` // CKA_ID, hexadecimal
	Kind        string             `json:"kind"`
	Created     time.Time          `json:"created"`
	Certificate *listedCertificate `json:"certificate,omitempty"`
	Attributes  map[string]any     `json:"attributes"`
}

type listedCertificate struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"` // hexadecimal
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	CA          bool      `json:"ca"`
	Names       []string  `json:"names,omitempty"`
	Fingerprint string    `json:"sha256"`
}

func (t *tool) list(ctx context.Context, o options) error {
	pattern, err := listPattern(o)
	if err != nil {
		return err
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	var want []client.AttributeType
	if !o.flag("json", false) {
		want = []client.AttributeType{client.AttrClass, client.AttrLabel}
	}
	inv, err := s.inventory(ctx, want, pattern...)
	if err != nil {
		return err
	}
	if o.flag("json", false) {
		list := []listedObject{}
		for _, e := range inv {
			list = append(list, e.listed())
		}
		return t.con.printJSON(list)
	}
	for _, e := range inv {
		t.con.printf("handle=%d\tlabel=%s\n", e.handle, shown(e.label()))
	}
	if len(inv) == 0 {
		t.con.note("no such objects in %s", s.where)
	}
	return nil
}

func listPattern(o options) ([]client.Attribute, error) {
	var pattern []client.Attribute
	if o.has("class") {
		class, err := classOf(o.text("class"))
		if err != nil {
			return nil, err
		}
		pattern = append(pattern, client.NumberAttr(client.AttrClass, uint64(class)))
	}
	if o.has("label") {
		pattern = append(pattern, client.TextAttr(client.AttrLabel, o.text("label")))
	}
	return pattern, nil
}

func classOf(name string) (client.Class, error) {
	for _, class := range []client.Class{client.ClassPrivateKey, client.ClassPublicKey, client.ClassCertificate, client.ClassSecretKey} {
		if strings.EqualFold(name, class.String()) {
			return class, nil
		}
	}
	return 0, &usageError{fmt.Sprintf("-class=%s; expected private, public, certificate or secret", name)}
}

func (e *entry) listed() listedObject {
	id, _ := e.Attributes.Get(client.AttrID)
	l := listedObject{
		Handle: e.handle, UUID: e.ID, Class: e.class().String(), Label: e.label(), ID: hex.EncodeToString(id),
		Kind: e.kind(), Created: time.Unix(int64(e.created()), 0).UTC(), Attributes: attributeValues(e.Attributes),
	}
	if e.cert != nil {
		l.Certificate = &listedCertificate{
			Subject: nameWords(e.cert.Subject), Issuer: nameWords(e.cert.Issuer), Serial: e.cert.SerialNumber.Text(16),
			NotBefore: e.cert.NotBefore.UTC(), NotAfter: e.cert.NotAfter.UTC(), CA: e.cert.IsCA,
			Names: namesIn(e.cert), Fingerprint: client.Fingerprint(e.cert.Raw),
		}
	}
	return l
}
