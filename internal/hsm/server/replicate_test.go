package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// What a device answers as a replica.

var (
	deviceReplica = object.Replica{
		PartitionInfo: object.PartitionInfo{Label: "p1", Serial: "11"}, ID: object.ReplicaID{1}, HSM: object.HSMID{2},
		Certificate: []byte("certificate"), Domain: "000102030405060708090a0b0c0d0e0f", Software: "device",
		Peers: []object.Peer{{HSM: object.HSMID{3}, Serial: "12", Name: "other"}},
	}
	deviceGroup = object.Group{ID: object.ID{7}, Label: "ha", Serial: "99", Epoch: 4, Members: []object.Member{
		{Serial: "11", HSM: object.HSMID{2}, Name: "a"}, {Serial: "12", HSM: object.HSMID{3}, Name: "b", Address: "b:1792"},
	}}
	deviceDigest = object.ReplicaDigest{Sequence: 9, Objects: 5, Tombstones: 1, Sum: [32]byte{6}, Epoch: 4}
)

// deviceState is the state of the object that changed last at a sequence, with
// as long a history as there may be.
func deviceState(sequence uint64) object.ObjectState {
	s := object.ObjectState{Sequence: sequence, Stamp: object.Stamp{Count: 1}, Vector: make(object.Vector, object.MaxVector)}
	binary.BigEndian.PutUint64(s.ID[:], sequence)
	for i := range s.Vector {
		s.Vector[i] = object.Count{Replica: object.ReplicaID{byte(i)}, Changes: 1}
	}
	return s
}

func (s *deviceSession) Replica(context.Context, object.OperationID) (object.Replica, error) {
	defer s.enter()()
	return deviceReplica, nil
}

func (s *deviceSession) Group(context.Context, object.OperationID) (object.Group, error) {
	defer s.enter()()
	return deviceGroup, nil
}

func (s *deviceSession) SetGroup(_ context.Context, _ object.OperationID, expect uint64, g object.Group) error {
	if expect != deviceGroup.Epoch {
		return object.Errorf(object.ErrExists, "the record has epoch %d", deviceGroup.Epoch)
	}
	return s.did(fmt.Sprintf("group %q %d", g.Label, g.Epoch))
}

func (s *deviceSession) Digest(context.Context, object.OperationID) (object.ReplicaDigest, error) {
	defer s.enter()()
	return deviceDigest, nil
}

// Changes are endless.
func (s *deviceSession) Changes(_ context.Context, _ object.OperationID, after uint64, limit int) ([]object.ObjectState, bool, error) {
	defer s.enter()()
	states := make([]object.ObjectState, limit)
	for i := range states {
		states[i] = deviceState(after + uint64(i) + 1)
	}
	return states, true, nil
}

func (s *deviceSession) OfferClone(_ context.Context, _ object.OperationID, from object.HSMID, serial string) ([]byte, error) {
	return []byte("offer"), s.did(fmt.Sprintf("offer %x %s", from[:1], serial))
}

func (s *deviceSession) CloneOut(_ context.Context, _ object.OperationID, offer []byte, ids []object.ID) ([]byte, []object.ID, error) {
	pkg := make([]byte, object.MaxPackage)
	return pkg, ids[:len(ids)-1], s.did(fmt.Sprintf("out %s %d", offer, len(ids)))
}

func (s *deviceSession) CloneIn(ctx context.Context, _ object.OperationID, pkg []byte) ([]object.CloneResult, error) {
	defer s.enter()()
	if s.d.cloneIn != nil {
		if err := s.d.cloneIn(ctx); err != nil {
			return nil, err
		}
	}
	results := make([]object.CloneResult, object.MaxClone)
	for i := range results {
		binary.BigEndian.PutUint32(results[i].ID[:], uint32(i))
		results[i].Outcome = object.CloneMerged
		results[i].Detail = string(bytes.Repeat([]byte("x"), 10*wire.MaxCloneDetail))
	}
	return results, nil
}

func (s *deviceSession) SetPeer(_ context.Context, _ object.OperationID, hsm object.HSMID, serial string, listed bool) error {
	return s.did(fmt.Sprintf("peer %x %s %v", hsm[:1], serial, listed))
}

// plainSession does not replicate.
type plainSession struct{ Session }

var replicaRequests = []struct {
	op wire.Op
	m  answer
}{
	{wire.OpReplica, &wire.SessionRequest{Session: 1}},
	{wire.OpGroup, &wire.SessionRequest{Session: 1}},
	{wire.OpDigest, &wire.SessionRequest{Session: 1}},
	{wire.OpSetGroup, &wire.SetGroupRequest{Session: 1, Expect: 4, Group: object.Group{Label: "new", Epoch: 5}}},
	{wire.OpChanges, &wire.ChangesRequest{Session: 1, After: 10, Limit: object.MaxChanges}},
	{wire.OpOfferClone, &wire.OfferRequest{Session: 1, HSM: object.HSMID{3}, Serial: "12"}},
	{wire.OpCloneOut, &wire.CloneOutRequest{Session: 1, Offer: []byte("offer"), IDs: []object.ID{{1}, {2}}}},
	{wire.OpCloneIn, &wire.CloneInRequest{Session: 1, Package: []byte("package")}},
	{wire.OpSetPeer, &wire.SetPeerRequest{Session: 1, HSM: object.HSMID{3}, Serial: "12", Listed: true}},
}

func TestReplicationReachesTheBackend(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	registry := prometheus.NewPedanticRegistry()
	server, certificate := start(t, Options{Backend: d, Registerer: registry}), newCertificate(t, "c")
	p := server.connect(t, certificate)
	bodies := map[wire.Op][]byte{}
	for _, r := range replicaRequests {
		p.send(r.op, r.m)
		bodies[r.op] = p.want(object.OK)
	}
	// A package that is larger than was thought was charged, and given back.
	for end := time.Now().Add(patience); server.heldBy(fingerprintOf(certificate)) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the client still holds %d bytes", server.heldBy(fingerprintOf(certificate)))
		}
	}
	var (
		replica wire.ReplicaAnswer
		group   wire.GroupAnswer
		digest  wire.DigestAnswer
		changes wire.ChangesAnswer
		offer   wire.OfferAnswer
		out     wire.CloneOutAnswer
		in      wire.CloneInAnswer
	)
	for op, m := range map[wire.Op]interface{ Decode([]byte) error }{
		wire.OpReplica: &replica, wire.OpGroup: &group, wire.OpDigest: &digest, wire.OpChanges: &changes, wire.OpOfferClone: &offer,
		wire.OpCloneOut: &out, wire.OpCloneIn: &in, wire.OpSetGroup: done, wire.OpSetPeer: done,
	} {
		if err := m.Decode(bodies[op]); err != nil {
			t.Errorf("%v: %v", op, err)
		}
	}
	if !cmp.Equal(replica.Replica, deviceReplica) || !cmp.Equal(group.Group, deviceGroup) || digest.Digest != deviceDigest || string(offer.Offer) != "offer" {
		t.Errorf("%+v, %+v, %+v, %q", replica, group, digest, offer.Offer)
	}
	// What does not fit a frame comes with the next page.
	if n := len(changes.States); n < 900 || n >= object.MaxChanges || !changes.More || !cmp.Equal(changes.States[n-1], deviceState(10+uint64(n))) {
		t.Errorf("%d changes, more %v", n, changes.More)
	}
	if len(out.Package) != object.MaxPackage || !cmp.Equal(out.IDs, []object.ID{{1}}) {
		t.Errorf("a package of %d bytes with %v", len(out.Package), out.IDs)
	}
	if len(in.Results) != object.MaxClone || len(in.Results[0].Detail) != wire.MaxCloneDetail {
		t.Errorf("%d results", len(in.Results))
	}
	if n := sample(t, registry, "cloned_objects_total", "direction", "out", "outcome", "sent"); n != 1 {
		t.Errorf("%v objects are counted as sent", n)
	}
	if n := sample(t, registry, "cloned_objects_total", "direction", "in", "outcome", object.CloneMerged.String()); n != object.MaxClone {
		t.Errorf("%v objects are counted as merged", n)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	want := []string{`group "new" 5 `, "offer 03 12 ", "out offer 2 ", "peer 03 12 true "}
	if diff := cmp.Diff(want, d.acts); diff != "" {
		t.Errorf("the backend did (-want +got):\n%s", diff)
	}
}

// A backend that does not replicate need not know of it.
func TestSessionsMayNotReplicate(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	d.plain = true
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	for _, r := range replicaRequests {
		p.send(r.op, r.m)
		p.want(object.ErrNotSupported)
	}
	p.send(wire.OpSign, sign(1))
	p.want(object.OK)
}

// TestClonesHoldUpNobody: while one client clones in all that it may, another's
// signatures and changes are done.
func TestClonesHoldUpNobody(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	release, began := make(chan struct{}), make(chan struct{}, 100)
	d.cloneIn = func(ctx context.Context) error {
		began <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	r := start(t, Options{Backend: d})
	cloner, other := newCertificate(t, "cloner"), r.connect(t, newCertificate(t, "other"))
	large := &wire.CloneInRequest{Session: 1, Package: make([]byte, object.MaxPackage)}
	small := &wire.CloneInRequest{Session: 1, Package: make([]byte, 1000)}
	peers := []*peer{r.connect(t, cloner), r.connect(t, cloner)}
	for _, p := range peers {
		p.send(wire.OpCloneIn, large)
		for range 5 {
			p.send(wire.OpCloneIn, small)
		}
	}
	// The heavy pool's one worker at least, and three quarters of the slow one's.
	for range max(1, r.options.HeavyWorkers*3/4) + r.options.SlowWorkers*3/4 {
		wait(t, began, "a clone")
	}
	for range 10 {
		other.send(wire.OpSign, sign(1))
		other.want(object.OK)
		other.send(wire.OpStore, &wire.StoreRequest{Session: 1})
		other.want(object.OK)
		other.send(wire.OpChanges, &wire.ChangesRequest{Session: 1, Limit: 10})
		other.want(object.OK)
	}
	close(release)
	for _, p := range peers {
		for range 6 {
			if head, body := p.receive(); head.Code != object.OK {
				t.Errorf("a clone: %v %q", head.Code, body)
			}
		}
	}
}

// TestReplicationKeepsMemoryBounded: a client that asks for the largest pages,
// packages and offers, as many as it can and reads nothing, is stopped by its
// budget, however many connections it has.
func TestReplicationKeepsMemoryBounded(t *testing.T) {
	// Not parallel: the heap is everybody's.
	d := newDevice(t)
	const budget = 8 << 20
	r := start(t, Options{Backend: d, MaxBufferedPerClient: budget, WriteTimeout: patience})
	certificate := newCertificate(t, "greedy")
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	requests := []struct {
		op wire.Op
		m  answer
	}{
		{wire.OpChanges, &wire.ChangesRequest{Session: 1, Limit: object.MaxChanges}},
		{wire.OpCloneOut, &wire.CloneOutRequest{Session: 1, Offer: make([]byte, object.MaxOffer), IDs: ascendingIDs(object.MaxClone)}},
		{wire.OpCloneIn, &wire.CloneInRequest{Session: 1, Package: make([]byte, object.MaxPackage)}},
		{wire.OpOfferClone, &wire.OfferRequest{Session: 1, HSM: object.HSMID{3}, Serial: "12"}},
	}
	for i := range 16 {
		p := r.connect(t, certificate)
		request := requests[i%len(requests)]
		var frames []byte
		for id := range uint64(200) {
			start := len(frames)
			frames = request.m.Append(wire.BeginRequest(frames, wire.Request{ID: id + 10, Op: request.op}))
			wire.End(frames[start:], 0)
			if len(frames) > 4<<20 {
				break
			}
		}
		flooded := make(chan struct{})
		go func() { defer close(flooded); p.conn.Write(frames) }()
		t.Cleanup(func() { p.conn.Close(); <-flooded })
	}
	highest := 0
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		highest = max(highest, r.heldBy(fingerprintOf(certificate)))
	}
	// Each connection may have one small request beyond the budget, and a client
	// that uses nothing one of any size.
	if limit := budget + 16*wire.SmallCharge; highest > limit || highest < budget/2 {
		t.Errorf("the client holds %d bytes of requests and answers, at most %d", highest, limit)
	}
	other := r.connect(t, newCertificate(t, "other"))
	other.send(wire.OpSign, sign(1))
	other.want(object.OK)
	// The frames that wait to be sent are ours (16 of up to 5 MB); TLS and the
	// results of calls that run come on top of the budget.
	if grown := int64(heap()) - int64(before); grown > 16*5<<20+4*budget {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
}

func ascendingIDs(n int) []object.ID {
	ids := make([]object.ID, n)
	for i := range ids {
		binary.BigEndian.PutUint32(ids[i][:], uint32(i))
	}
	return ids
}
