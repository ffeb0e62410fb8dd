package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// copyBatch is of how many objects a source is asked at once; it may answer
// with fewer.
const copyBatch = min(128, client.MaxClone)

// copied is what became of the objects of a copy, by their ID.
type copied map[ID]object.CloneResult

// refusals are those that the target did not take.
func (c copied) refusals() []object.CloneResult {
	var list []object.CloneResult
	for _, r := range c {
		if r.Outcome == object.CloneRefused {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b object.CloneResult) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return list
}

// refusal is the first of them as an error, nil for none.
func (c copied) refusal() error {
	for _, r := range c.refusals() {
		return &client.HSMError{Code: r.Code, Detail: r.Detail}
	}
	return nil
}

// copyTries is how often a batch is tried: an offer is good once, for a minute
// and one session, all of which may end in between.
const copyTries = 3

// copyObjects has objects and tombstones sealed by one member for another, and
// carries them there. Each batch has an offer of its own, which is good once.
// each is called for every outcome; it may be nil.
func copyObjects(ctx context.Context, from, to *member, ids []ID, each func(object.CloneResult)) (copied, error) {
	done := copied{}
	for len(ids) > 0 {
		included, results, err := copyBatchOf(ctx, from, to, ids[:min(len(ids), copyBatch)])
		for tries := 1; err != nil && tries < copyTries && ctx.Err() == nil; tries++ {
			if _, answered := errors.AsType[*client.HSMError](err); !answered {
				break
			}
			included, results, err = copyBatchOf(ctx, from, to, ids[:min(len(ids), copyBatch)])
		}
		if err != nil {
			return done, err
		}
		for _, r := range results {
			done[r.ID] = r
			if each != nil {
				each(r)
			}
		}
		gone := make(map[ID]bool, len(included))
		for _, id := range included {
			gone[id] = true
		}
		ids = slices.DeleteFunc(slices.Clone(ids), func(id ID) bool { return gone[id] })
	}
	return done, nil
}

// copyBatchOf copies as many of the objects as fit one package: at least one.
func copyBatchOf(ctx context.Context, from, to *member, ids []ID) ([]ID, []object.CloneResult, error) {
	source, target := from.client.Load(), to.client.Load()
	self, known := from.self()
	if source == nil || !known {
		return nil, nil, MemberError{from.name, errMemberGone}
	}
	if target == nil {
		return nil, nil, MemberError{to.name, errMemberGone}
	}
	offer, err := target.OfferClone(ctx, self.HSM, self.Serial)
	if err != nil {
		return nil, nil, MemberError{to.name, err}
	}
	pkg, included, err := source.CloneOut(ctx, offer, ids)
	if err != nil {
		return nil, nil, MemberError{from.name, err}
	}
	if len(included) == 0 {
		return nil, nil, MemberError{from.name, fmt.Errorf("it sealed none of %d objects for %s", len(ids), to.name)}
	}
	results, err := target.CloneIn(ctx, pkg)
	if err != nil {
		return nil, nil, MemberError{to.name, err}
	}
	from.answers.Add(1)
	to.answers.Add(1)
	return included, results, nil
}
