package partition

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/store"

	"github.com/google/uuid"
)

// rogue is whoever holds an HSM's identity and speaks its messages, without
// being bound by its rules.
type rogue struct {
	id          object.HSMID
	certificate []byte
	key         *ecdsa.PrivateKey
	recipient   *replica.Recipient // of its last offer or request
}

func newRogue(t testing.TB) *rogue {
	t.Helper()
	r, err := makeRogue()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func makeRogue() (*rogue, error) {
	record, err := newIdentity("rogue", time.Now())
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(record.Key)
	if err != nil {
		return nil, err
	}
	return &rogue{id: hsmID(record.Certificate), certificate: record.Certificate, key: key.(*ecdsa.PrivateKey)}, nil
}

// offer is one from the rogue's partition "1234" to the world's p, as the edit
// has it.
func (r *rogue) offer(w *world, edit func(*replica.Offer)) []byte {
	w.t.Helper()
	var err error
	r.recipient, err = replica.NewRecipient()
	must(w.t, err)
	o := &replica.Offer{Public: r.recipient.Public()}
	o.Target = replica.Place{HSM: r.id, Serial: "1234"}
	if w.Initialized() {
		o.Source = replica.Place{HSM: w.hsmID(), Serial: w.partitionSerial()}
		o.Domain, err = w.domainNumber()
		must(w.t, err)
	} else {
		o.Source = replica.Place{HSM: r.id, Serial: "1"}
	}
	rand.Read(o.Nonce[:])
	if edit != nil {
		edit(o)
	}
	raw, err := o.Sign(r.key)
	must(w.t, err)
	return raw
}

// pack answers an offer with a batch under a domain's key, as the edit has it.
func (r *rogue) pack(t testing.TB, raw []byte, key *[32]byte, edit func(*replica.Package), items ...*replica.Item) []byte {
	t.Helper()
	pkg, err := r.answer(raw, key, edit, items...)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

func (r *rogue) answer(raw []byte, key *[32]byte, edit func(*replica.Package), items ...*replica.Item) ([]byte, error) {
	o, err := replica.DecodeOffer(raw)
	if err != nil {
		return nil, err
	}
	batch := new(replica.Batch)
	for _, it := range items {
		if !batch.Add(it) {
			return nil, fmt.Errorf("item %v does not fit", it.ID)
		}
	}
	return r.answerWith(o, key, edit, batch.Bytes())
}

// answerWith answers with whatever bytes.
func (r *rogue) answerWith(o *replica.Offer, key *[32]byte, edit func(*replica.Package), batch []byte) ([]byte, error) {
	pkg, err := o.Answer(store.Seal(key, o.Bound(), batch))
	if err != nil {
		return nil, err
	}
	if edit != nil {
		edit(pkg)
	}
	return pkg.Sign(r.key)
}

// request asks an HSM for its domain.
func (r *rogue) request(t testing.TB, to object.HSMID) []byte {
	t.Helper()
	var err error
	if r.recipient, err = replica.NewRecipient(); err != nil {
		t.Fatal(err)
	}
	q := &replica.Request{From: r.id, To: to, Public: r.recipient.Public()}
	rand.Read(q.Nonce[:])
	raw, err := q.Sign(r.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// aGroup is some group's record at an epoch.
func aGroup(epoch uint64) object.Group {
	return object.Group{
		ID: uuid.MustParse("99999999-9999-4999-8999-999999999999"), Label: "group", Serial: "900", Epoch: epoch,
		Members: []object.Member{{Serial: "1", HSM: object.HSMID{1}, Name: "one"}, {Serial: "2", HSM: object.HSMID{2}, Name: "two"}},
	}
}
