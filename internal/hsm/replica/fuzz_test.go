package replica

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"moongate/internal/hsm/object"
)

// messages makes one of each kind.
func messages(t testing.TB) (key *ecdsa.PrivateKey, r *Recipient, offer, pkg, request, share []byte) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	r, err = NewRecipient()
	check(err)
	o := &Offer{Way: Way{Source: Place{object.HSMID{1}, "123"}, Target: Place{object.HSMID{2}, "456"}, Nonce: [32]byte{3}, Domain: [16]byte{4}}, Public: r.Public()}
	offer, err = o.Sign(key)
	check(err)
	p, err := o.Answer([]byte("sealed by the domain"))
	check(err)
	pkg, err = p.Sign(key)
	check(err)
	q := &Request{From: object.HSMID{1}, To: object.HSMID{2}, Nonce: [32]byte{3}, Public: r.Public()}
	request, err = q.Sign(key)
	check(err)
	s, err := q.Answer([16]byte{4}, make([]byte, domainSecret))
	check(err)
	share, err = s.Sign(key)
	check(err)
	return key, r, offer, pkg, request, share
}

func batch(t testing.TB) []byte {
	t.Helper()
	b := new(Batch)
	for i, it := range []*Item{
		{ID: object.ID{1}, Handle: 7, History: First(object.ReplicaID{1}), Attributes: object.Defaults(object.ClassSecretKey), Secret: []byte("secret")},
		{ID: object.ID{2}, Deleted: true, At: time.Unix(1_700_000_000, 0)},
	} {
		if !b.Add(it) {
			t.Fatalf("item %d does not fit", i)
		}
	}
	return b.Bytes()
}

// FuzzDecoders feeds every decoder the same input: it is refused, or decodes to
// what encodes to it again.
func FuzzDecoders(f *testing.F) {
	_, _, offer, pkg, request, share := messages(f)
	f.Add(offer)
	f.Add(pkg)
	f.Add(request)
	f.Add(share)
	f.Add(batch(f))
	f.Add(First(object.ReplicaID{1}).Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		same := func(what string, out []byte, err error) {
			if err == nil && !bytes.Equal(in, out) {
				t.Errorf("%s: %x decodes to what encodes to %x", what, in, out)
			}
		}
		signed := func(body, signature []byte) []byte {
			return append(append(bytes.Clone(body), byte(len(signature))), signature...)
		}
		if o, err := DecodeOffer(in); err == nil {
			same("offer", signed(append(o.Way.append([]byte(offerMagic)), o.Public...), o.signature), nil)
		}
		if p, err := DecodePackage(in); err == nil {
			same("package", signed(appendSized32(append(p.Way.append([]byte(packageMagic)), p.Enc...), p.Sealed), p.signature), nil)
		}
		if q, err := DecodeRequest(in); err == nil {
			b := append(append([]byte(requestMagic), q.From[:]...), q.To[:]...)
			same("request", signed(append(append(b, q.Nonce[:]...), q.Public...), q.signature), nil)
		}
		if s, err := DecodeShare(in); err == nil {
			same("share", signed(append(append(s.head([]byte(shareMagic)), s.Enc...), s.Sealed...), s.signature), nil)
		}
		if items, err := DecodeBatch(in); err == nil {
			b := new(Batch)
			for i := range items {
				if !b.Add(&items[i]) {
					t.Fatalf("item %d does not fit again", i)
				}
			}
			same("batch", b.Bytes(), nil)
		}
		if h, rest, err := DecodeHistory(in); err == nil {
			same("history", append(h.Append(nil), rest...), nil)
		}
	})
}

// TestMessagesAreBound: a message with any byte changed is refused, or was not
// signed; none is taken for one of another kind.
func TestMessagesAreBound(t *testing.T) {
	t.Parallel()
	key, r, offer, pkg, request, share := messages(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	kinds := []struct {
		name   string
		raw    []byte
		verify func(raw []byte, key *ecdsa.PublicKey) bool
	}{
		{"offer", offer, func(raw []byte, key *ecdsa.PublicKey) bool {
			o, err := DecodeOffer(raw)
			return err == nil && o.Verify(key)
		}},
		{"package", pkg, func(raw []byte, key *ecdsa.PublicKey) bool {
			p, err := DecodePackage(raw)
			return err == nil && p.Verify(key)
		}},
		{"request", request, func(raw []byte, key *ecdsa.PublicKey) bool {
			q, err := DecodeRequest(raw)
			return err == nil && q.Verify(key)
		}},
		{"share", share, func(raw []byte, key *ecdsa.PublicKey) bool {
			s, err := DecodeShare(raw)
			return err == nil && s.Verify(key)
		}},
	}
	for _, k := range kinds {
		if !k.verify(k.raw, &key.PublicKey) {
			t.Errorf("%s: it was signed", k.name)
		}
		if k.verify(k.raw, &other.PublicKey) || k.verify(k.raw, nil) {
			t.Errorf("%s: it was not signed by another", k.name)
		}
		for i := 0; i < len(k.raw); i += 1 + len(k.raw)/200 {
			changed := bytes.Clone(k.raw)
			changed[i] ^= 1
			if k.verify(changed, &key.PublicKey) {
				t.Errorf("%s: byte %d was changed", k.name, i)
			}
		}
		for _, cut := range [][]byte{k.raw[:len(k.raw)-1], append(bytes.Clone(k.raw), 0), nil} {
			if k.verify(cut, &key.PublicKey) {
				t.Errorf("%s: %d bytes of %d", k.name, len(cut), len(k.raw))
			}
		}
		for _, as := range kinds {
			if as.name != k.name && as.verify(k.raw, &key.PublicKey) {
				t.Errorf("a %s is taken for a %s", k.name, as.name)
			}
		}
	}
	// What is sealed opens with the key that it was sealed to, on its own way.
	p, err := DecodePackage(pkg)
	if err != nil {
		t.Fatal(err)
	}
	if inner, ok := p.Open(r); !ok || string(inner) != "sealed by the domain" {
		t.Errorf("the package opens to %q, %v", inner, ok)
	}
	if wrong, err := NewRecipient(); err != nil {
		t.Fatal(err)
	} else if _, ok := p.Open(wrong); ok {
		t.Error("the package opens with another key")
	}
	p.Target.Serial = "457"
	if _, ok := p.Open(r); ok {
		t.Error("the package opens on another way")
	}
	s, err := DecodeShare(share)
	if err != nil {
		t.Fatal(err)
	}
	if secret, ok := s.Open(r); !ok || len(secret) != domainSecret {
		t.Error("the share does not open")
	}
	s.Domain[0] ^= 1
	if _, ok := s.Open(r); ok {
		t.Error("the share opens as another domain's")
	}
}

// TestBatchIsFull: what does not fit is not added, and what was stays.
func TestBatchIsFull(t *testing.T) {
	t.Parallel()
	b := new(Batch)
	id := func(n int) object.ID { return object.ID{0: byte(n >> 8), 1: byte(n), 15: 1} }
	big := make([]byte, maxSecret)
	n := 0
	for ; b.Add(&Item{ID: id(n), Handle: 1, History: First(object.ReplicaID{1}), Attributes: object.Defaults(object.ClassSecretKey), Secret: big}); n++ {
		if b.Add(&Item{ID: id(n), Deleted: true}) {
			t.Fatal("the same object fits twice")
		}
	}
	items, err := DecodeBatch(b.Bytes())
	if err != nil || len(items) != n || n < 8 || b.Len() != n {
		t.Errorf("%d items, %d were added: %v", len(items), n, err)
	}
	if len(b.Bytes()) > MaxBatch {
		t.Errorf("%d bytes, at most %d", len(b.Bytes()), MaxBatch)
	}
	many := new(Batch)
	for n = 0; many.Add(&Item{ID: id(n), Deleted: true}); n++ {
	}
	if n != object.MaxClone {
		t.Errorf("%d items fit, want %d", n, object.MaxClone)
	}
	many.Clear()
	if bytes.ContainsFunc(many.b, func(r rune) bool { return r != 0 }) {
		t.Error("something is left of a batch that was cleared")
	}
}

// TestLargestPackageFits: the fullest batch makes a package within the bound.
func TestLargestPackageFits(t *testing.T) {
	t.Parallel()
	key, r, _, _, _, _ := messages(t)
	long := string(bytes.Repeat([]byte("9"), maxSerial))
	o := &Offer{Way: Way{Source: Place{object.HSMID{1}, long}, Target: Place{object.HSMID{2}, long}}, Public: r.Public()}
	p, err := o.Answer(make([]byte, MaxBatch+sealSize))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := p.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodePackage(raw); err != nil || len(raw) > object.MaxPackage {
		t.Errorf("%d bytes, at most %d: %v", len(raw), object.MaxPackage, err)
	}
	raw, err = o.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeOffer(raw); err != nil || len(raw) > object.MaxOffer {
		t.Errorf("an offer of %d bytes: %v", len(raw), err)
	}
}
