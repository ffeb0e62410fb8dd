package partition

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// fixture is what the acts are about.
type fixture struct {
	key, public, spare, cipher, wrapping, free, base, rsa object.ID

	sealed, wrapped, signature []byte

	peer *rogue // pinned as "peer"; its partition "1234" is listed where there is a Crypto Officer
}

// snapshot is a state on disk, which worlds are copied from.
type snapshot struct {
	dir         string
	fingerprint string
	*fixture
}

func takeSnapshot(t *testing.T, make func(*world, *fixture)) *snapshot {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{now: time.Now()}}
	w.openStore()
	w.open()
	ctx := t.Context()
	must(t, w.Initialize(ctx, operator, InitOptions{Label: "lab", Officer: soPassword}))
	o := w.officer()
	must(t, o.CreatePartition(ctx, "p"))
	cert, fingerprint := newCertificate(t)
	w.fingerprint = fingerprint
	must(t, o.RegisterClient(ctx, Registration{Name: "c", Address: home.Addr().String(), Certificate: cert}))
	must(t, o.AssignPartition(ctx, "c", "p"))
	f := &fixture{peer: newRogue(t)}
	must(t, o.AddPeer(ctx, "peer", f.peer.certificate))
	make(w, f)
	w.close()
	return &snapshot{w.dir, fingerprint, f}
}

// world opens a copy.
func (s *snapshot) world(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{now: time.Now()}, fingerprint: s.fingerprint}
	must(t, os.CopyFS(filepath.Join(w.dir, "copy"), os.DirFS(s.dir)))
	w.dir = filepath.Join(w.dir, "copy")
	must(t, os.Chmod(filepath.Join(w.dir, "device.key"), 0o600))
	w.openStore()
	w.open()
	return w
}

// makeUsed gives p its Crypto Officer, by the Security Officer, its Crypto User
// and keys.
func makeUsed(w *world, f *fixture) {
	must(w.t, w.officer().InitCryptoOfficer(w.t.Context(), "p", coPassword))
	makeKeys(w, f)
}

// makeWhole gives p and the HSM every role, and keys; officer-reset is on.
func makeWhole(w *world, f *fixture) {
	ctx, o := w.t.Context(), w.officer()
	must(w.t, o.InitAuditor(ctx, auPassword))
	must(w.t, o.InitPartition(ctx, "p", poPassword))
	po := w.partitionOfficer()
	must(w.t, po.SetPolicy(ctx, object.PolicyValue{ID: object.PolicyOfficerReset, Value: 1}))
	must(w.t, po.InitCryptoOfficer(ctx, coPassword))
	makeKeys(w, f)
}

func makeKeys(w *world, f *fixture) {
	ctx := w.t.Context()
	s, err := w.on("p", object.RoleCryptoOfficer, coPassword)
	must(w.t, err)
	must(w.t, s.InitRole(ctx, newOp(), object.RoleCryptoUser, cuPassword))
	f.public, f.key = w.newKey(s)
	_, f.spare = w.newKey(s)
	secret := func(flags ...object.AttributeType) object.ID {
		t := object.New(object.Number(object.AttrValueLen, 32))
		for _, flag := range flags {
			t = t.With(object.Bool(flag, true))
		}
		_, id, err := s.Generate(ctx, newOp(), aes, nil, t)
		must(w.t, err)
		return id
	}
	f.cipher = secret(object.AttrEncrypt, object.AttrDecrypt)
	f.wrapping = secret(object.AttrWrap, object.AttrUnwrap)
	f.free = secret(object.AttrExtractable)
	_, f.base, err = s.Generate(ctx, newOp(), object.Mechanism{Type: object.MechGenericSecretGen}, nil,
		object.New(object.Number(object.AttrValueLen, 32), object.Bool(object.AttrDerive, true)))
	must(w.t, err)
	f.sealed, err = recorded(s).Encrypt(ctx, newOp(), f.cipher, gcm, []byte("x"))
	must(w.t, err)
	f.wrapped, err = s.Wrap(ctx, newOp(), f.wrapping, f.free, kwp)
	must(w.t, err)
	f.signature, err = recorded(s).Sign(ctx, newOp(), f.key, ecdsa256, make([]byte, 32))
	must(w.t, err)
	must(w.t, s.SetPeer(ctx, newOp(), f.peer.id, "1234", true))
	s.Close()
}

func lockAll(w *world) {
	must(w.t, w.updateHSM(func(r *hsmRecord) { r.Auditor.Password.Failures = maxFailures }))
	p, err := w.find("p")
	must(w.t, err)
	must(w.t, w.updatePartition(p, func(_ *store.Tx, r *partitionRecord) error {
		for _, role := range r.Roles {
			role.Password.Failures = maxFailures
		}
		return nil
	}))
}
