package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
)

// A token does not replicate; a replica is one that does. Groups and clones
// between real HSMs are tested by client/ha and internal/hsm/daemon.
type replica struct {
	server.Session
	changes []object.ObjectState
	asked   *[]string // what was asked, as text
	reverse bool      // pages come in the wrong order
	ignores bool      // pages begin where they like
	group   *object.Group
}

var testReplica = object.Replica{
	PartitionInfo: object.PartitionInfo{Label: "p1", Serial: "11"}, ID: object.ReplicaID{1}, HSM: object.HSMID{2},
	Certificate: []byte("certificate"), Domain: "000102030405060708090a0b0c0d0e0f", Software: "token",
	Peers: []object.Peer{{HSM: object.HSMID{3}, Serial: "12", Name: "other"}},
}

func (r replica) Replica(context.Context, object.OperationID) (object.Replica, error) {
	return testReplica, nil
}

func (r replica) Group(context.Context, object.OperationID) (object.Group, error) {
	return *r.group, nil
}

func (r replica) SetGroup(_ context.Context, _ object.OperationID, expect uint64, g object.Group) error {
	if expect != r.group.Epoch {
		return object.Errorf(ErrExists, "the record has epoch %d", r.group.Epoch)
	}
	*r.group = g
	return nil
}

func (r replica) Digest(context.Context, object.OperationID) (object.ReplicaDigest, error) {
	return object.ReplicaDigest{Sequence: uint64(len(r.changes)), Objects: uint64(len(r.changes)), Sum: [32]byte{7}}, nil
}

func (r replica) Changes(_ context.Context, _ object.OperationID, after uint64, limit int) ([]object.ObjectState, bool, error) {
	*r.asked = append(*r.asked, fmt.Sprintf("changes after %d, %d", after, limit))
	if r.ignores {
		after = 0
	}
	page := r.changes[min(int(after), len(r.changes)):]
	more := len(page) > limit
	page = page[:min(limit, len(page))]
	if r.reverse {
		page = []object.ObjectState{page[1], page[0]}
	}
	return page, more, nil
}

func (r replica) OfferClone(_ context.Context, _ object.OperationID, from object.HSMID, serial string) ([]byte, error) {
	return fmt.Appendf(nil, "offer to %x %s", from[:1], serial), nil
}

func (r replica) CloneOut(_ context.Context, _ object.OperationID, offer []byte, ids []object.ID) ([]byte, []object.ID, error) {
	return append([]byte("answer of "), offer...), ids, nil
}

func (r replica) CloneIn(_ context.Context, _ object.OperationID, pkg []byte) ([]object.CloneResult, error) {
	return []object.CloneResult{{ID: ID{1}, Outcome: CloneRefused, Code: ErrKeySize, Detail: string(pkg)}}, nil
}

func (r replica) SetPeer(_ context.Context, _ object.OperationID, hsm object.HSMID, serial string, listed bool) error {
	*r.asked = append(*r.asked, fmt.Sprintf("peer %x %s %v", hsm[:1], serial, listed))
	return nil
}

// newReplica is newClient of a token that replicates.
func newReplica(t *testing.T, changes int, adjust func(*replica)) (*Client, *[]string) {
	t.Helper()
	k := newToken(t)
	r := &replica{asked: new([]string), group: new(object.Group), changes: make([]object.ObjectState, changes)}
	for i := range r.changes {
		r.changes[i] = object.ObjectState{Sequence: uint64(i + 1), Stamp: object.Stamp{Count: 1}}
		binary.BigEndian.PutUint32(r.changes[i].ID[:], uint32(i))
	}
	if adjust != nil {
		adjust(r)
	}
	k.wrap = func(s server.Session) server.Session {
		with := *r
		with.Session = s
		return with
	}
	k.run(t)
	return dial(t, k.config(t)), r.asked
}

func TestReplicaCalls(t *testing.T) {
	t.Parallel()
	c, asked := newReplica(t, 3, nil)
	ctx := t.Context()
	if got, err := c.Replica(ctx); err != nil || !cmp.Equal(got, testReplica) {
		t.Errorf("Replica: %+v, %v", got, err)
	}
	if got, err := c.Group(ctx); err != nil || !cmp.Equal(got, GroupRecord{}) {
		t.Errorf("Group: %+v, %v", got, err)
	}
	record := GroupRecord{ID: ID{7}, Label: "ha", Serial: "99", Epoch: 4, Members: []GroupMember{{Serial: "11", HSM: HSMID{2}, Name: "a"}}}
	if err := c.SetGroup(ctx, 1, record); CodeOf(err) != ErrExists {
		t.Errorf("SetGroup: %v", err)
	}
	if err := c.SetGroup(ctx, 0, record); err != nil {
		t.Errorf("SetGroup: %v", err)
	}
	if got, err := c.Group(ctx); err != nil || !cmp.Equal(got, record) {
		t.Errorf("Group: %+v, %v", got, err)
	}
	if got, err := c.Digest(ctx); err != nil || got.Sequence != 3 || got.Sum != [32]byte{7} {
		t.Errorf("Digest: %+v, %v", got, err)
	}
	offer, err := c.OfferClone(ctx, HSMID{3}, "12")
	if err != nil || string(offer) != "offer to 03 12" {
		t.Errorf("OfferClone: %q, %v", offer, err)
	}
	ids := []ID{{2}, {1}, {2}}
	pkg, in, err := c.CloneOut(ctx, offer, ids)
	if err != nil || string(pkg) != "answer of offer to 03 12" || !cmp.Equal(in, []ID{{1}, {2}}) || ids[0] != (ID{2}) {
		t.Errorf("CloneOut: %q, %v, %v (asked for %v)", pkg, in, err, ids)
	}
	results, err := c.CloneIn(ctx, pkg)
	if err != nil || len(results) != 1 || results[0].Detail != string(pkg) {
		t.Errorf("CloneIn: %+v, %v", results, err)
	}
	if err := c.SetPeer(ctx, HSMID{3}, "12", true); err != nil || !cmp.Equal(*asked, []string{"peer 03 12 true"}) {
		t.Errorf("SetPeer: %v, %q", err, *asked)
	}

	// What no HSM takes is not sent to one.
	for what, err := range map[string]error{
		"no objects":       fail3(c.CloneOut(ctx, offer, nil)),
		"many objects":     fail3(c.CloneOut(ctx, offer, manyIDs(MaxClone+1))),
		"a long offer":     fail3(c.CloneOut(ctx, make([]byte, object.MaxOffer+1), ids)),
		"a long package":   fail2(c.CloneIn(ctx, make([]byte, object.MaxPackage+1))),
		"an empty page":    fail3(c.ChangesPage(ctx, 0, 0)),
		"a page too large": fail3(c.ChangesPage(ctx, 0, object.MaxChanges+1)),
	} {
		if CodeOf(err) != ErrArgumentsBad {
			t.Errorf("%s: %v", what, err)
		}
	}
	if pkg, in, err := c.CloneOut(ctx, offer, manyIDs(MaxClone)); err != nil || len(in) != MaxClone || !bytes.HasPrefix(pkg, []byte("answer")) {
		t.Errorf("the largest clone: %d objects, %v", len(in), err)
	}
}

func fail2[A any](_ A, err error) error         { return err }
func fail3[A, B any](_ A, _ B, err error) error { return err }

func manyIDs(n int) []ID {
	ids := make([]ID, n)
	for i := range ids {
		binary.BigEndian.PutUint32(ids[i][:], uint32(i))
	}
	return ids
}

func TestChangesComeInPages(t *testing.T) {
	t.Parallel()
	const n = 2*object.MaxChanges + 10
	c, asked := newReplica(t, n, nil)
	next := uint64(5)
	for state, err := range c.Changes(t.Context(), 4) {
		if err != nil {
			t.Fatal(err)
		}
		if state.Sequence != next {
			t.Fatalf("change %d, want %d", state.Sequence, next)
		}
		next++
	}
	if next != n+1 || !cmp.Equal(*asked, []string{"changes after 4, 1024", "changes after 1028, 1024", "changes after 2052, 1024"}) {
		t.Errorf("%d changes by %q", next, *asked)
	}
	*asked = nil
	for range c.Changes(t.Context(), 0) {
		break
	}
	if len(*asked) != 1 {
		t.Errorf("one change took %q", *asked)
	}
	if page, more, err := c.ChangesPage(t.Context(), n-1, 5); err != nil || more || len(page) != 1 {
		t.Errorf("the last page: %d, %v, %v", len(page), more, err)
	}
}

// An HSM that repeats itself does not keep its client for ever.
func TestChangesOutOfOrderAreRefused(t *testing.T) {
	t.Parallel()
	for what, adjust := range map[string]func(*replica){
		"within a page":   func(r *replica) { r.reverse = true },
		"page after page": func(r *replica) { r.ignores = true },
	} {
		c, _ := newReplica(t, object.MaxChanges+2, adjust)
		seen := 0
		var last error
		for _, err := range c.Changes(t.Context(), 0) {
			if last = err; err == nil {
				seen++
			}
		}
		if last == nil || seen > object.MaxChanges {
			t.Errorf("%s: %v after %d changes", what, last, seen)
		}
	}
}

func TestTokensMayNotReplicate(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	if _, err := c.Replica(t.Context()); CodeOf(err) != ErrNotSupported || !strings.Contains(err.Error(), "does not replicate") {
		t.Errorf("Replica: %v", err)
	}
	for _, err := range c.Changes(t.Context(), 0) {
		if CodeOf(err) != ErrNotSupported {
			t.Errorf("Changes: %v", err)
		}
	}
}
