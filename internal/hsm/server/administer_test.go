package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

func TestAdministrationReachesTheBackend(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	cu, po := object.RoleCryptoUser, object.RolePartitionOfficer
	for _, r := range []struct {
		op wire.Op
		m  answer
	}{
		{wire.OpInitPartition, &wire.InitPartitionRequest{Session: 1, Password: []byte("p1")}},
		{wire.OpInitRole, &wire.PasswordRequest{Session: 1, Role: cu, Password: []byte("p2")}},
		{wire.OpResetRole, &wire.PasswordRequest{Session: 1, Role: po, Password: []byte("p3")}},
		{wire.OpUnlockRole, &wire.UnlockRoleRequest{Session: 1, Role: cu}},
		{wire.OpChangePassword, &wire.ChangePasswordRequest{Session: 1, Role: po, Old: []byte("p4"), New: []byte("p5")}},
		{wire.OpSetPolicy, &wire.SetPolicyRequest{Session: 1, Policy: object.PolicyValue{ID: object.PolicyMinRSA, Value: 4096}}},
		{wire.OpDeactivate, &wire.SessionRequest{Session: 1}},
	} {
		p.send(r.op, r.m)
		if body := p.want(object.OK); len(body) != 0 {
			t.Errorf("%v is answered with %x", r.op, body)
		}
	}
	p.send(wire.OpDerive, &wire.DeriveRequest{Session: 1, Base: object.ID{0xba}, Template: object.New(object.Text(object.AttrLabel, "x")),
		Mechanism: object.Mechanism{Type: object.MechHKDFDerive, Salt: []byte("s"), Info: []byte("i"), Peer: []byte("p")}})
	var derived wire.IDAnswer
	if err := derived.Decode(p.want(object.OK)); err != nil || derived.ID != (object.ID{0xde}) {
		t.Errorf("Derive: %v, %v", derived.ID, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	want := []string{"init p1", "init cu p2", "reset po p3", "unlock cu ", "change po p4 p5", "min-rsa-bits 4096 ", "deactivate ",
		`derive ba CKM_HKDF_DERIVE "s" "i" "p" 1 `}
	if diff := cmp.Diff(want, d.acts); diff != "" {
		t.Errorf("the backend did (-want +got):\n%s", diff)
	}
	if len(d.logins) != 5 {
		t.Fatalf("%d passwords", len(d.logins))
	}
	for i, password := range d.logins {
		if !bytes.Equal(password, make([]byte, 2)) {
			t.Errorf("password %d is %q after its use", i+1, password)
		}
	}
}

func TestStatusAndAuditAnswers(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Backend: newDevice(t)}).connect(t, newCertificate(t, "c"))
	p.send(wire.OpStatus, &wire.SessionRequest{Session: 1})
	var status wire.StatusAnswer
	if err := status.Decode(p.want(object.OK)); err != nil || !cmp.Equal(status.Status, deviceStatus) {
		t.Errorf("Status: %+v, %v", status.Status, err)
	}
	p.send(wire.OpAuditCheckpoint, done)
	var checkpoint wire.CheckpointAnswer
	if err := checkpoint.Decode(p.want(object.OK)); err != nil || !cmp.Equal(checkpoint.Checkpoint, deviceProof.Checkpoint) {
		t.Errorf("AuditCheckpoint: %+v, %v", checkpoint, err)
	}
	p.send(wire.OpAuditProof, &wire.ProofRequest{Size: 100})
	var proof wire.ProofAnswer
	if err := proof.Decode(p.want(object.OK)); err != nil || !cmp.Equal(proof.Proof, deviceProof) {
		t.Errorf("AuditProof: %+v, %v", proof, err)
	}
	p.send(wire.OpAuditProof, &wire.ProofRequest{Size: 101})
	p.want(object.ErrArgumentsBad)
}

func TestVerifies(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	digest := bytes.Repeat([]byte{1}, 32)
	signature, err := ecdsa.SignASN1(rand.Reader, d.key, digest)
	if err != nil {
		t.Fatal(err)
	}
	p.send(wire.OpVerify, &wire.VerifyRequest{Session: 1, Data: digest, Signature: signature})
	p.want(object.OK)
	p.send(wire.OpVerify, &wire.VerifyRequest{Session: 1, Data: digest, Signature: signature[1:]})
	p.want(object.ErrSignatureInvalid)
}

// TestEveryOpRefusesWhatIsMalformed: a body that ends early, or goes on after
// its end, is answered with a breach of protocol, after which the server hangs
// up; a session that is not there is refused, and the connection goes on.
func TestEveryOpRefusesWhatIsMalformed(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Backend: newDevice(t), MaxConnectionsPerClient: 1000})
	certificate := newCertificate(t, "c")
	sessionless := []wire.Op{wire.OpPing, wire.OpListPartitions, wire.OpOpenSession, wire.OpAuditCheckpoint, wire.OpAuditProof}
	good := map[wire.Op]answer{
		wire.OpPing: done, wire.OpListPartitions: done, wire.OpAuditCheckpoint: done,
		wire.OpAuditProof:   &wire.ProofRequest{},
		wire.OpOpenSession:  &wire.OpenSessionRequest{},
		wire.OpCloseSession: &wire.SessionRequest{}, wire.OpLogout: &wire.SessionRequest{},
		wire.OpStatus: &wire.SessionRequest{}, wire.OpDeactivate: &wire.SessionRequest{},
		wire.OpLogin: &wire.PasswordRequest{}, wire.OpInitRole: &wire.PasswordRequest{}, wire.OpResetRole: &wire.PasswordRequest{},
		wire.OpInitPartition: &wire.InitPartitionRequest{}, wire.OpUnlockRole: &wire.UnlockRoleRequest{},
		wire.OpChangePassword: &wire.ChangePasswordRequest{}, wire.OpSetPolicy: &wire.SetPolicyRequest{},
		wire.OpGenerate: &wire.GenerateRequest{}, wire.OpStore: &wire.StoreRequest{},
		wire.OpFind: &wire.FindRequest{Limit: 1}, wire.OpGet: &wire.GetRequest{}, wire.OpSet: &wire.SetRequest{},
		wire.OpDestroy: &wire.DestroyRequest{}, wire.OpSign: &wire.UseRequest{}, wire.OpEncrypt: &wire.UseRequest{},
		wire.OpDecrypt: &wire.UseRequest{}, wire.OpWrap: &wire.WrapRequest{}, wire.OpUnwrap: &wire.UnwrapRequest{},
		wire.OpRandom: &wire.RandomRequest{N: 1}, wire.OpVerify: &wire.VerifyRequest{}, wire.OpDerive: &wire.DeriveRequest{},
		wire.OpReplica: &wire.SessionRequest{}, wire.OpGroup: &wire.SessionRequest{}, wire.OpDigest: &wire.SessionRequest{},
		wire.OpSetGroup: &wire.SetGroupRequest{}, wire.OpChanges: &wire.ChangesRequest{Limit: 1}, wire.OpOfferClone: &wire.OfferRequest{},
		wire.OpCloneOut: &wire.CloneOutRequest{IDs: []object.ID{{1}}}, wire.OpCloneIn: &wire.CloneInRequest{}, wire.OpSetPeer: &wire.SetPeerRequest{},
	}
	for _, op := range wire.Ops() {
		if op == wire.OpHello {
			continue // TestRefusalIsTheAnswerToHello
		}
		t.Run(op.String(), func(t *testing.T) {
			t.Parallel()
			m, known := good[op]
			if !known {
				t.Fatal("this test does not know the op")
			}
			body := m.Append(nil)
			bad := []rawBody{append(slices.Clone(body), 0)}
			if len(body) > 0 {
				bad = append(bad, body[:len(body)-1], nil)
			}
			for _, b := range bad {
				p := r.connect(t, certificate)
				p.send(op, b)
				p.want(object.ErrProtocol)
				p.wantEnd()
			}
			if slices.Contains(sessionless, op) {
				return
			}
			p := r.connect(t, certificate)
			p.send(op, m) // of session 0, which there never is
			p.want(object.ErrSessionHandle)
			p.send(wire.OpPing, done)
			p.want(object.OK)
		})
	}
}

// rawBody is a body as it is.
type rawBody []byte

func (b rawBody) Append(to []byte) []byte { return append(to, b...) }
