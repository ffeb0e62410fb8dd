package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/hsm/object"
)

var update = flag.Bool("update", false, "write the golden files anew")

type message interface {
	Append([]byte) []byte
	Decode([]byte) error
}

// useAs gives UseRequest the Decode of one of its three ops.
type useAs struct {
	UseRequest
	op Op
}

func (u *useAs) Decode(b []byte) error { return u.UseRequest.Decode(u.op, b) }

func repeat(from, to byte) object.ID {
	var id object.ID
	for i := range id {
		id[i] = from + byte(i)*(to-from)/15
	}
	return id
}

var (
	idA = repeat(0xa0, 0xaf)
	idB = repeat(0xb0, 0xbf)

	templateA = object.New(object.Number(object.AttrClass, uint64(object.ClassPrivateKey)),
		object.Text(object.AttrLabel, "schlüssel"), object.Bool(object.AttrSign, true))
	templateB = object.New(object.Bytes(object.AttrID, []byte{1, 2, 3}), object.Number(object.AttrHandle, 7))

	hsmA, hsmB         = object.HSMID(bytes.Repeat([]byte{0xa5}, 32)), object.HSMID(bytes.Repeat([]byte{0xb5}, 32))
	replicaA, replicaB = object.ReplicaID(bytes.Repeat([]byte{0xa1}, 8)), object.ReplicaID(bytes.Repeat([]byte{0xb1}, 8))

	groupA = object.Group{ID: idA, Label: "moongate-ha", Serial: "1234567890123456", Epoch: 3, Members: []object.Member{
		{Serial: "11", HSM: hsmA, Name: "hsm-a", Address: "hsm-a.example.com:1792"}, {Serial: "12", HSM: hsmB, Name: "hsm-b"},
	}}
	stateA = object.ObjectState{ID: idA, Sequence: 8, Stamp: object.Stamp{Count: 4, Replica: replicaB},
		Vector: object.Vector{{Replica: replicaA, Changes: 3}, {Replica: replicaB, Changes: 1}}, Content: [32]byte(hsmA)}
	stateB = object.ObjectState{ID: idB, Sequence: 9, Deleted: true, At: time.Date(2026, 11, 27, 8, 42, 0, 5e6, time.UTC)}

	allFields = object.Mechanism{Type: object.MechRSAPSS, Hash: object.HashSHA384, SaltLength: 48, SessionKeyLen: 32, AAD: []byte("aad"),
		IV: []byte("iv"), Salt: []byte("salt"), Info: []byte("info"), Peer: []byte("peer")}
)

// messages is one of each, under the name of its golden file.
var messages = []struct {
	name string
	m    message
}{
	{"hello-request", &HelloRequest{Min: 1, Max: 3, Software: "moongate 1.0"}},
	{"hello-answer", &HelloAnswer{Version: 1, Software: "moongate-hsm 1.0", Serial: "1234567", MaxFrame: MaxFrame, MaxInFlight: 128}},
	{"empty", &Empty{}},
	{"listpartitions-answer", &PartitionsAnswer{Partitions: []object.PartitionInfo{{Label: "p1", Serial: "11"}, {Label: "zwölf", Serial: "12"}}}},
	{"opensession-request", &OpenSessionRequest{Partition: "p1"}},
	{"opensession-answer", &OpenSessionAnswer{Session: 5, Partition: object.PartitionInfo{Label: "p1", Serial: "11"}}},
	{"session-request", &SessionRequest{Session: 5}},
	{"password-request", &PasswordRequest{Session: 5, Role: object.RoleCryptoUser, Password: []byte("pässword")}},
	{"generate-request", &GenerateRequest{Session: 5, Mechanism: object.Mechanism{Type: object.MechECKeyPairGen}, Public: templateB, Private: templateA}},
	{"generate-answer", &GenerateAnswer{Public: idA, Private: idB}},
	{"store-request", &StoreRequest{Session: 5, Template: templateA}},
	{"id-answer", &IDAnswer{ID: idA}},
	{"find-request", &FindRequest{Session: 5, Pattern: templateA, Want: []object.AttributeType{object.AttrLabel, object.AttrHandle}, After: 1 << 40, Limit: 100}},
	{"find-answer", &FindAnswer{Objects: []object.Found{{ID: idA, Attributes: templateA}, {ID: idB, Attributes: templateB}}, More: true}},
	{"get-request", &GetRequest{Session: 5, ID: idA, Want: []object.AttributeType{object.AttrClass, object.AttrLabel}}},
	{"get-answer", &GetAnswer{Template: templateB}},
	{"set-request", &SetRequest{Session: 5, ID: idA, Template: templateB}},
	{"destroy-request", &DestroyRequest{Session: 5, ID: idA}},
	{"sign-request", &useAs{UseRequest{Session: 5, ID: idA, Mechanism: object.Mechanism{Type: object.MechECDSA, Hash: object.HashSHA256}, Data: bytes.Repeat([]byte{0xdd}, 32)}, OpSign}},
	{"encrypt-request", &useAs{UseRequest{Session: 5, ID: idA, Mechanism: allFields, Data: []byte("plaintext")}, OpEncrypt}},
	{"decrypt-request", &useAs{UseRequest{Session: 5, ID: idA, Mechanism: object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 48}, Data: []byte("ciphertext")}, OpDecrypt}},
	{"wrap-request", &WrapRequest{Session: 5, Wrapping: idA, Target: idB, Mechanism: object.Mechanism{Type: object.MechAESKWP}}},
	{"unwrap-request", &UnwrapRequest{Session: 5, ID: idA, Mechanism: object.Mechanism{Type: object.MechAESKWP}, Wrapped: []byte("wrapped"), Template: templateA}},
	{"random-request", &RandomRequest{Session: 5, N: 32}},
	{"verify-request", &VerifyRequest{Session: 5, ID: idA, Mechanism: object.Mechanism{Type: object.MechEdDSA}, Data: []byte("message"), Signature: []byte("signature")}},
	{"derive-request", &DeriveRequest{Session: 5, Base: idA, Mechanism: object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256, Salt: []byte("salt"), Info: []byte("info")}, Template: templateA}},
	{"status-answer", &StatusAnswer{object.PartitionStatus{
		PartitionInfo: object.PartitionInfo{Label: "p1", Serial: "11"},
		Roles:         []object.RoleStatus{{Role: object.RoleCryptoOfficer, Initialized: true, Failures: 3}, {Role: object.RoleCryptoUser, Locked: true}},
		Policies:      []object.PolicyValue{{ID: object.PolicyMinRSA, Value: 3072}, {ID: object.PolicyImport, Value: 1}},
		Objects:       7, Active: true,
	}}},
	{"initpartition-request", &InitPartitionRequest{Session: 5, Password: []byte("pässword")}},
	{"unlockrole-request", &UnlockRoleRequest{Session: 5, Role: object.RoleCryptoUser}},
	{"changepassword-request", &ChangePasswordRequest{Session: 5, Role: object.RolePartitionOfficer, Old: []byte("old"), New: []byte("fresh")}},
	{"setpolicy-request", &SetPolicyRequest{Session: 5, Policy: object.PolicyValue{ID: object.PolicyMinRSA, Value: 4096}}},
	{"checkpoint-answer", &CheckpointAnswer{object.AuditCheckpoint{Note: []byte("note\n"), Verifier: "hsm+1234+key"}}},
	{"proof-request", &ProofRequest{Size: 1 << 40}},
	{"proof-answer", &ProofAnswer{object.AuditProof{
		Checkpoint: object.AuditCheckpoint{Note: []byte("note\n"), Verifier: "hsm+1234+key"},
		Hashes:     [][32]byte{[32]byte(bytes.Repeat([]byte{0xaa}, 32)), [32]byte(bytes.Repeat([]byte{0xbb}, 32))},
	}}},
	{"data-answer", &DataAnswer{Data: []byte("signature")}},
	{"replica-answer", &ReplicaAnswer{object.Replica{
		PartitionInfo: object.PartitionInfo{Label: "p1", Serial: "11"},
		ID:            replicaA, HSM: hsmA, Certificate: []byte("certificate"), Domain: "000102030405060708090a0b0c0d0e0f", Software: "moongate-hsm 1.0",
		Peers: []object.Peer{{HSM: hsmA, Serial: "12", Name: "this"}, {HSM: hsmB, Serial: "11", Name: "zwölf"}},
	}}},
	{"group-answer", &GroupAnswer{groupA}},
	{"group-answer-none", &GroupAnswer{}},
	{"setgroup-request", &SetGroupRequest{Session: 5, Expect: 2, Group: groupA}},
	{"setgroup-request-none", &SetGroupRequest{Session: 5, Expect: 3}},
	{"digest-answer", &DigestAnswer{object.ReplicaDigest{Sequence: 1 << 40, Objects: 7, Tombstones: 3, Sum: [32]byte(hsmB), Epoch: 2}}},
	{"changes-request", &ChangesRequest{Session: 5, After: 1 << 40, Limit: 100}},
	{"changes-answer", &ChangesAnswer{States: []object.ObjectState{stateA, stateB}, More: true}},
	{"offerclone-request", &OfferRequest{Session: 5, HSM: hsmA, Serial: "11"}},
	{"offerclone-answer", &OfferAnswer{Offer: []byte("offer")}},
	{"cloneout-request", &CloneOutRequest{Session: 5, Offer: []byte("offer"), IDs: []object.ID{idA, idB}}},
	{"cloneout-answer", &CloneOutAnswer{Package: []byte("package"), IDs: []object.ID{idA}}},
	{"clonein-request", &CloneInRequest{Session: 5, Package: []byte("package")}},
	{"clonein-answer", &CloneInAnswer{[]object.CloneResult{
		{ID: idA, Outcome: object.CloneMerged, Detail: "the content of replica a1 stayed"},
		{ID: idB, Outcome: object.CloneRefused, Code: object.ErrKeySize, Detail: "RSA of 1024 bits"},
	}}},
	{"setpeer-request", &SetPeerRequest{Session: 5, HSM: hsmB, Serial: "12", Listed: true}},
}

// The golden files are shared with the protocol's other implementations: a
// difference is a new protocol, not a new golden file.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, test := range messages {
		checkGolden(t, test.name, test.m.Append(nil))
	}
	request := BeginRequest(nil, Request{ID: 0x0102030405060708, Op: OpSign, Deadline: 1500, Operation: object.OperationID(idB)})
	request = append(request, "body"...)
	answer := append(BeginAnswer(nil, Answer{ID: 0x0102030405060708}), "body"...)
	if !End(request, 0) || !End(answer, 0) {
		t.Fatal("End: too long")
	}
	checkGolden(t, "frame-request", request)
	checkGolden(t, "frame-answer", answer)
	checkGolden(t, "frame-refusal", AppendRefusal(nil, 9, object.ErrKeyHandle, "no key »x«"))
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(hexLines(got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), hexLines(got)); diff != "" {
		t.Errorf("%s (-golden +got):\n%s", name, diff)
	}
}

// hexLines is hexadecimal, 32 bytes to a line.
func hexLines(b []byte) string {
	var out strings.Builder
	for len(b) > 32 {
		out.WriteString(hex.EncodeToString(b[:32]) + "\n")
		b = b[32:]
	}
	out.WriteString(hex.EncodeToString(b) + "\n")
	return out.String()
}

func TestMessagesReturn(t *testing.T) {
	t.Parallel()
	for _, test := range messages {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body := test.m.Append(nil)
			again := fresh(test.m)
			if err := again.Decode(body); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.m, again, cmp.AllowUnexported(useAs{})); diff != "" {
				t.Errorf("decoded (-sent +got):\n%s", diff)
			}
		})
	}
}

// fresh returns an empty message of the same type.
func fresh(m message) message {
	if u, is := m.(*useAs); is {
		return &useAs{op: u.op}
	}
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(message)
}

func TestEveryPrefixAndTrailerIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range messages {
		body := test.m.Append(nil)
		for n := range body {
			if err := fresh(test.m).Decode(body[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are taken for the whole", test.name, n, len(body))
			}
		}
		if err := fresh(test.m).Decode(append(body, 0)); err == nil {
			t.Errorf("%s: a trailing byte is taken", test.name)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	long := func(n int) []byte { return make([]byte, n) }
	types := make([]object.AttributeType, object.MaxAttributes+1)
	for i := range types {
		types[i] = object.AttributeType(i)
	}
	roles := make([]object.RoleStatus, MaxRoles+1)
	for i := range roles {
		roles[i].Role = object.Role(i)
	}
	policies := make([]object.PolicyValue, MaxPolicies+1)
	for i := range policies {
		policies[i].ID = object.PolicyID(i)
	}
	peers := make([]object.Peer, object.MaxPeers+1)
	states := make([]object.ObjectState, object.MaxChanges+1)
	ids := make([]object.ID, object.MaxClone+1)
	results := make([]object.CloneResult, object.MaxClone+1)
	for i := range peers {
		peers[i].HSM[0] = byte(i)
	}
	for i := range states {
		states[i].Sequence = uint64(i)
	}
	for i := range ids {
		binary.BigEndian.PutUint32(ids[i][:], uint32(i))
		results[i] = object.CloneResult{ID: ids[i], Outcome: object.CloneAdded}
	}
	for _, test := range []struct {
		name string
		m    message
		ok   bool
	}{
		{"software", &HelloRequest{Max: 1, Software: string(long(MaxSoftware))}, true},
		{"software", &HelloRequest{Max: 1, Software: string(long(MaxSoftware + 1))}, false},
		{"software not UTF-8", &HelloRequest{Max: 1, Software: "\xff"}, false},
		{"versions reversed", &HelloRequest{Min: 2, Max: 1}, false},
		{"partition", &OpenSessionRequest{Partition: string(long(MaxName + 1))}, false},
		{"partitions", &PartitionsAnswer{Partitions: make([]object.PartitionInfo, MaxPartitions+1)}, false},
		{"password", &PasswordRequest{Password: long(MaxPassword)}, true},
		{"password", &PasswordRequest{Password: long(MaxPassword + 1)}, false},
		{"officer's password", &InitPartitionRequest{Password: long(MaxPassword + 1)}, false},
		{"old password", &ChangePasswordRequest{Old: long(MaxPassword + 1)}, false},
		{"new password", &ChangePasswordRequest{New: long(MaxPassword + 1)}, false},
		{"message", &useAs{UseRequest{Data: long(MaxMessage)}, OpSign}, true},
		{"message", &useAs{UseRequest{Data: long(MaxMessage + 1)}, OpSign}, false},
		{"message to verify", &VerifyRequest{Data: long(MaxMessage), Signature: long(MaxSignature)}, true},
		{"message to verify", &VerifyRequest{Data: long(MaxMessage + 1)}, false},
		{"signature", &VerifyRequest{Signature: long(MaxSignature + 1)}, false},
		{"plaintext", &useAs{UseRequest{Data: long(MaxPlaintext)}, OpEncrypt}, true},
		{"plaintext", &useAs{UseRequest{Data: long(MaxPlaintext + 1)}, OpEncrypt}, false},
		{"ciphertext", &useAs{UseRequest{Data: long(MaxData)}, OpDecrypt}, true},
		{"ciphertext", &useAs{UseRequest{Data: long(MaxData + 1)}, OpDecrypt}, false},
		{"AAD", &useAs{UseRequest{Mechanism: object.Mechanism{AAD: long(MaxAAD + 1)}}, OpEncrypt}, false},
		{"IV", &DeriveRequest{Mechanism: object.Mechanism{IV: long(MaxIV + 1)}}, false},
		{"salt", &DeriveRequest{Mechanism: object.Mechanism{Salt: long(MaxSalt + 1)}}, false},
		{"info", &DeriveRequest{Mechanism: object.Mechanism{Info: long(MaxSalt + 1)}}, false},
		{"peer", &DeriveRequest{Mechanism: object.Mechanism{Peer: long(MaxPeer + 1)}}, false},
		{"parameters", &DeriveRequest{Mechanism: object.Mechanism{IV: long(MaxIV), Salt: long(MaxSalt), Info: long(MaxSalt), Peer: long(MaxPeer)}}, true},
		{"roles", &StatusAnswer{object.PartitionStatus{Roles: roles[:MaxRoles]}}, true},
		{"roles", &StatusAnswer{object.PartitionStatus{Roles: roles}}, false},
		{"roles doubled", &StatusAnswer{object.PartitionStatus{Roles: []object.RoleStatus{{Role: 2}, {Role: 2}}}}, false},
		{"roles out of order", &StatusAnswer{object.PartitionStatus{Roles: []object.RoleStatus{{Role: 3}, {Role: 2}}}}, false},
		{"policies", &StatusAnswer{object.PartitionStatus{Policies: policies[:MaxPolicies]}}, true},
		{"policies", &StatusAnswer{object.PartitionStatus{Policies: policies}}, false},
		{"policies doubled", &StatusAnswer{object.PartitionStatus{Policies: []object.PolicyValue{{ID: 2}, {ID: 2}}}}, false},
		{"note", &CheckpointAnswer{object.AuditCheckpoint{Note: long(MaxNote + 1)}}, false},
		{"verifier", &CheckpointAnswer{object.AuditCheckpoint{Verifier: string(long(MaxVerifier + 1))}}, false},
		{"proof", &ProofAnswer{object.AuditProof{Hashes: make([][32]byte, MaxProof)}}, true},
		{"proof", &ProofAnswer{object.AuditProof{Hashes: make([][32]byte, MaxProof+1)}}, false},
		{"wrapped", &UnwrapRequest{Wrapped: long(MaxWrapped + 1)}, false},
		{"data", &DataAnswer{Data: long(MaxData + 1)}, false},
		{"no random", &RandomRequest{N: 0}, false},
		{"random", &RandomRequest{N: MaxRandom + 1}, false},
		{"no limit", &FindRequest{Limit: 0}, false},
		{"limit", &FindRequest{Limit: MaxFind + 1}, false},
		{"want", &GetRequest{Want: types[:object.MaxAttributes]}, true},
		{"want", &GetRequest{Want: types}, false},
		{"want doubled", &GetRequest{Want: []object.AttributeType{3, 3}}, false},
		{"want out of order", &GetRequest{Want: []object.AttributeType{3, 1}}, false},
		{"certificate", &ReplicaAnswer{object.Replica{Certificate: long(MaxCertificate + 1)}}, false},
		{"domain", &ReplicaAnswer{object.Replica{Domain: string(long(MaxDomain + 1))}}, false},
		{"peers", &ReplicaAnswer{object.Replica{Peers: peers[:object.MaxPeers]}}, true},
		{"peers", &ReplicaAnswer{object.Replica{Peers: peers}}, false},
		{"peers doubled", &ReplicaAnswer{object.Replica{Peers: []object.Peer{{Serial: "1", Name: "a"}, {Serial: "1", Name: "b"}}}}, false},
		{"peers out of order", &ReplicaAnswer{object.Replica{Peers: []object.Peer{{HSM: hsmB}, {HSM: hsmA}}}}, false},
		{"members", &GroupAnswer{object.Group{Epoch: 1, Members: make([]object.Member, object.MaxMembers)}}, true},
		{"members", &GroupAnswer{object.Group{Epoch: 1, Members: make([]object.Member, object.MaxMembers+1)}}, false},
		{"group without epoch", &GroupAnswer{object.Group{Label: "x"}}, false},
		{"group's label", &SetGroupRequest{Group: object.Group{Epoch: 1, Label: string(long(object.MaxGroupLabel + 1))}}, false},
		{"no limit of changes", &ChangesRequest{Limit: 0}, false},
		{"limit of changes", &ChangesRequest{Limit: object.MaxChanges}, true},
		{"limit of changes", &ChangesRequest{Limit: object.MaxChanges + 1}, false},
		{"states", &ChangesAnswer{States: states[:object.MaxChanges]}, true},
		{"states", &ChangesAnswer{States: states}, false},
		{"states doubled", &ChangesAnswer{States: []object.ObjectState{stateA, stateA}}, false},
		{"states out of order", &ChangesAnswer{States: []object.ObjectState{stateB, stateA}}, false},
		{"no states and more", &ChangesAnswer{More: true}, false},
		{"time", &ChangesAnswer{States: []object.ObjectState{{Deleted: true, At: time.UnixMilli(endOfTime)}}}, false},
		{"time before 1970", &ChangesAnswer{States: []object.ObjectState{{Deleted: true, At: time.UnixMilli(-1)}}}, false},
		{"vector", &ChangesAnswer{States: []object.ObjectState{{Vector: object.Vector{{Replica: replicaA}}}}}, false},
		{"offer", &OfferAnswer{Offer: long(object.MaxOffer)}, true},
		{"offer", &OfferAnswer{Offer: long(object.MaxOffer + 1)}, false},
		{"offer to answer", &CloneOutRequest{Offer: long(object.MaxOffer + 1), IDs: []object.ID{idA}}, false},
		{"no objects", &CloneOutRequest{Offer: long(1)}, false},
		{"objects", &CloneOutRequest{IDs: ids[:object.MaxClone]}, true},
		{"objects", &CloneOutRequest{IDs: ids}, false},
		{"objects doubled", &CloneOutRequest{IDs: []object.ID{idA, idA}}, false},
		{"objects out of order", &CloneOutAnswer{IDs: []object.ID{idB, idA}}, false},
		{"package", &CloneInRequest{Package: long(object.MaxPackage)}, true},
		{"package", &CloneInRequest{Package: long(object.MaxPackage + 1)}, false},
		{"package in answer", &CloneOutAnswer{Package: long(object.MaxPackage + 1)}, false},
		{"no outcome", &CloneInAnswer{[]object.CloneResult{{ID: idA}}}, false},
		{"outcome", &CloneInAnswer{[]object.CloneResult{{ID: idA, Outcome: object.CloneRefused + 1}}}, false},
		{"refusal without code", &CloneInAnswer{[]object.CloneResult{{ID: idA, Outcome: object.CloneRefused}}}, false},
		{"code without refusal", &CloneInAnswer{[]object.CloneResult{{ID: idA, Outcome: object.CloneAdded, Code: object.ErrBusy}}}, false},
		{"results doubled", &CloneInAnswer{[]object.CloneResult{{ID: idA, Outcome: 1}, {ID: idA, Outcome: 1}}}, false},
		{"results", &CloneInAnswer{results}, false},
		{"found", &FindAnswer{Objects: make([]object.Found, MaxFind+1)}, false},
	} {
		if err := fresh(test.m).Decode(test.m.Append(nil)); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A template that no HSM takes is a refusal with its own code, not a broken
// protocol: the server goes on after it.
func TestTemplateRefusalKeepsItsCode(t *testing.T) {
	t.Parallel()
	m := StoreRequest{Template: object.Template{{Type: 0x7777}}}
	err := m.Decode(m.Append(nil))
	if !errors.Is(err, &object.Error{Code: object.ErrAttributeType}) {
		t.Errorf("Decode: %v, want %v", err, object.ErrAttributeType)
	}
	err = m.Decode([]byte{0, 0, 0, 1, 0})
	if _, refusal := errors.AsType[*object.Error](err); err == nil || refusal {
		t.Errorf("a short message is %v, want an error without a code", err)
	}
}

func TestFitCutsToAFrame(t *testing.T) {
	t.Parallel()
	big := object.New(object.Bytes(object.AttrValue, make([]byte, object.MaxAttributeValue)))
	a := FindAnswer{Objects: make([]object.Found, 20)}
	for i := range a.Objects {
		a.Objects[i] = object.Found{ID: idA, Attributes: big}
	}
	if !a.Fit() || !a.More || len(a.Objects) != 15 {
		t.Errorf("Fit left %d objects, more %v; want 15, true", len(a.Objects), a.More)
	}
	if frame := a.Append(BeginAnswer(nil, Answer{})); !End(frame, 0) {
		t.Error("what Fit leaves does not fit")
	}
}

// TestLongestAnswersFit: what the limits allow is within a frame.
func TestLongestAnswersFit(t *testing.T) {
	t.Parallel()
	long := object.ObjectState{Vector: make(object.Vector, object.MaxVector)}
	for i := range long.Vector {
		long.Vector[i] = object.Count{Replica: object.ReplicaID{byte(i)}, Changes: 1}
	}
	changes := ChangesAnswer{States: make([]object.ObjectState, object.MaxChanges)}
	results := CloneInAnswer{make([]object.CloneResult, object.MaxClone)}
	out := CloneOutAnswer{Package: make([]byte, object.MaxPackage), IDs: make([]object.ID, object.MaxClone)}
	for i := range object.MaxClone {
		changes.States[i] = long
		changes.States[i].Sequence = uint64(i)
		binary.BigEndian.PutUint32(out.IDs[i][:], uint32(i))
		results.Results[i] = object.CloneResult{ID: out.IDs[i], Outcome: object.CloneAdded, Detail: strings.Repeat("x", 2*MaxCloneDetail)}
	}
	all := len(changes.States)
	changes.Fit()
	if left := len(changes.States); left >= all || left < 900 || !changes.More {
		t.Errorf("Fit left %d states, more %v", left, changes.More)
	}
	for _, m := range []message{&changes, &results, &out} {
		frame := m.Append(BeginAnswer(nil, Answer{}))
		if !End(frame, 0) {
			t.Errorf("%T has %d bytes, at most %d", m, len(frame), MaxFrame)
		}
		if err := fresh(m).Decode(m.Append(nil)); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
	short := ChangesAnswer{States: []object.ObjectState{stateA, stateB}}
	if short.Fit(); len(short.States) != 2 || short.More {
		t.Error("Fit cut what fits")
	}
	if got, want := stateSize(&stateA)+stateSize(&stateB), len(short.Append(nil))-3; got != want {
		t.Errorf("Fit takes two states for %d bytes, they have %d", got, want)
	}
}

func TestOnlyReadsAreRepeatable(t *testing.T) {
	t.Parallel()
	reads := []Op{
		OpPing, OpListPartitions, OpFind, OpGet, OpSign, OpEncrypt, OpDecrypt, OpWrap, OpRandom, OpVerify,
		OpReplica, OpGroup, OpDigest, OpChanges, OpOfferClone, OpCloneOut, OpAuditCheckpoint, OpAuditProof, OpStatus,
	}
	for op := range Op(0x100) {
		if got, want := op.Repeatable(), slices.Contains(reads, op); got != want {
			t.Errorf("%v is repeatable: %v, want %v", op, got, want)
		}
	}
}

// TestNumbersAreUsedOnce: an op has a layout or is reserved, not both, and its
// name is its own.
func TestNumbersAreUsedOnce(t *testing.T) {
	t.Parallel()
	names := map[string]Op{}
	for op := range Op(0x100) {
		_, has := opNames[op]
		_, reserved := reservedNames[op]
		if has && (reserved || op >= OpReplicationFirst && op <= OpReplicationLast) {
			t.Errorf("%v has a layout and is reserved", op)
		}
		if other, taken := names[op.String()]; taken {
			t.Errorf("0x%02x and 0x%02x are both called %v", uint16(other), uint16(op), op)
		}
		names[op.String()] = op
	}
	if list := Ops(); !slices.IsSorted(list) || len(list) != len(opNames) {
		t.Errorf("Ops: %v", list)
	}
}

// FuzzMessages decodes bytes as each message: what is taken encodes to the
// same bytes again.
func FuzzMessages(f *testing.F) {
	for i, test := range messages {
		f.Add(byte(i), test.m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		test := messages[int(which)%len(messages)]
		m := fresh(test.m)
		if err := m.Decode(in); err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(in, again) {
			t.Errorf("%s: %x decodes to %+v, which encodes to %x", test.name, in, m, again)
		}
	})
}
