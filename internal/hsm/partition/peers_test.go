package partition

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

// TestIdentityStays: an HSM's identity outlives restarts, and a zeroization ends
// it.
func TestIdentityStays(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	cert, id, err := w.HSMIdentity()
	must(t, err)
	parsed, err := x509.ParseCertificate(cert)
	must(t, err)
	if parsed.Subject.CommonName != "moongate-hsm "+w.Serial() || parsed.NotAfter.Year() != 9999 {
		t.Errorf("certificate of %v until %v", parsed.Subject, parsed.NotAfter)
	}
	w.restart()
	if again := w.hsmID(); again != id {
		t.Errorf("after a restart HSM %v, was %v", again, id)
	}
	must(t, w.officer().Zeroize(t.Context()))
	if _, _, err := w.HSMIdentity(); object.CodeOf(err) != object.ErrNotInitialized {
		t.Errorf("of no HSM: %v", err)
	}
	must(t, w.Initialize(t.Context(), operator, InitOptions{Label: "again", Officer: soPassword}))
	if again := w.hsmID(); again == id {
		t.Error("a zeroization left the identity")
	}
}

// TestPeersArePinned: what is pinned is an HSM's identity, once, under one name,
// in either encoding.
func TestPeersArePinned(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w, other := newEmptyWorld(t), newRogue(t)
	o := w.officer()
	add := func(what, name string, cert []byte, code object.Code, reason string) {
		t.Helper()
		w.refused(what, o.AddPeer(ctx, name, cert), code, reason, "peer.add")
	}
	own, _, err := w.HSMIdentity()
	must(t, err)
	add("itself", "me", own, object.ErrArgumentsBad, "of this HSM itself")
	add("no certificate", "x", []byte("a certificate"), object.ErrDataInvalid, "is not the certificate of an HSM's identity")
	add("no name", "", other.certificate, object.ErrArgumentsBad, "expected 1 to 64")
	add("a name with a colon", "a:b", other.certificate, object.ErrArgumentsBad, "holds @ or :")
	wrongKey, notSelf := foreignCertificates(t)
	add("another curve", "x", wrongKey, object.ErrDataInvalid, "ECDSA key with P-256")
	add("not signed by its own key", "x", notSelf, object.ErrDataInvalid, "is not signed by its own key")
	must(t, o.AddPeer(ctx, "b", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.certificate})))
	add("again", "b", other.certificate, object.ErrExists, "pinned as b already")
	add("under another name", "c", other.certificate, object.ErrExists, "pinned as b already; take that name")
	add("another under its name", "b", newRogue(t).certificate, object.ErrExists, "is another HSM")
	w.restart()
	o = w.officer()
	peers, err := w.Peers()
	must(t, err)
	if len(peers) != 1 || peers[0].Name != "b" || peers[0].ID != other.id || !bytes.Equal(peers[0].Certificate, other.certificate) || peers[0].Added.IsZero() {
		t.Errorf("peers %+v", peers)
	}
	w.refused("one that is not there", o.RemovePeer(ctx, "c"), object.ErrObjectNotFound, "no peer is called", "peer.remove")
	must(t, o.RemovePeer(ctx, "b"))
	if peers, err := w.Peers(); err != nil || len(peers) != 0 {
		t.Errorf("peers %+v, %v", peers, err)
	}
	for i := range MaxPinned {
		must(t, o.AddPeer(ctx, "peer"+string(rune('A'+i%26))+string(rune('A'+i/26)), newRogue(t).certificate))
	}
	add("one too many", "last", other.certificate, object.ErrBusy, "no more fit")
}

func foreignCertificates(t *testing.T) (wrongKey, notSelf []byte) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	wrongKey, err = x509.CreateCertificate(rand.Reader, template, template, &large.PublicKey, large)
	must(t, err)
	small, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	notSelf, err = x509.CreateCertificate(rand.Reader, template, template, &small.PublicKey, large)
	must(t, err)
	return wrongKey, notSelf
}

// TestListOfPeers: a partition's owner keeps its list, of pinned HSMs alone.
func TestListOfPeers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWorld(t)
	a, b := newRogue(t), newRogue(t)
	s := w.session(object.RoleCryptoOfficer)
	w.refused("not pinned", s.SetPeer(ctx, newOp(), a.id, "1", true), object.ErrPolicy, "is not pinned", actSetPeer)
	must(t, w.officer().AddPeer(ctx, "a", a.certificate))
	must(t, w.officer().AddPeer(ctx, "b", b.certificate))
	w.refused("a bad serial number", s.SetPeer(ctx, newOp(), a.id, "", true), object.ErrArgumentsBad, "is no partition's", actSetPeer)
	for _, serial := range []string{"1", "1", "2"} {
		must(t, s.SetPeer(ctx, newOp(), a.id, serial, true))
	}
	must(t, s.SetPeer(ctx, newOp(), b.id, "1", true))
	must(t, s.SetPeer(ctx, newOp(), b.id, "7", false)) // it is not there
	peers := func() []object.Peer {
		t.Helper()
		r, err := w.session(object.RoleNone).Replica(ctx, newOp())
		must(t, err)
		shown, err := w.Replication("p")
		must(t, err)
		if diff := cmp.Diff(r.Peers, shown.Peers); diff != "" {
			t.Errorf("shown to administrators otherwise:\n%s", diff)
		}
		return r.Peers
	}
	listed := map[object.Peer]bool{}
	for _, p := range peers() {
		listed[p] = true
	}
	want := map[object.Peer]bool{{HSM: a.id, Serial: "1", Name: "a"}: true, {HSM: a.id, Serial: "2", Name: "a"}: true, {HSM: b.id, Serial: "1", Name: "b"}: true}
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	must(t, w.officer().RemovePeer(ctx, "a"))
	if got := peers(); len(got) != 1 || got[0].HSM != b.id {
		t.Errorf("listed %+v, want that of b", got)
	}
	w.restart()
	s = w.session(object.RoleCryptoOfficer)
	if got := peers(); len(got) != 1 {
		t.Errorf("after a restart %+v", got)
	}
	for i := range object.MaxPeers - 1 {
		must(t, s.SetPeer(ctx, newOp(), b.id, "1"+string(rune('A'+i%26))+string(rune('A'+i/26)), true))
	}
	w.refused("one too many", s.SetPeer(ctx, newOp(), b.id, "0", true), object.ErrBusy, "no more fit", actSetPeer)
	must(t, s.SetPeer(ctx, newOp(), b.id, "1", false))
	must(t, s.SetPeer(ctx, newOp(), b.id, "0", true))
}
