package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// freshFor is how old the latest checkpoint may be, in a log that has grown
// since, to be shown to somebody who asks for the newest.
const freshFor = 2 * time.Second

// errProof is the answer where stored hashes do not give the root that was
// signed: a proof from them would accuse the log of what the disk did.
var errProof = errors.New("the stored hashes are damaged: the proof made of them is wrong; open the log anew to recompute them")

// Checkpoint is the latest signed checkpoint. Whoever keeps it can later
// demand a [Log.ProveTree] from it on, and so notice rewritten history.
func (l *Log) Checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.latest.note)
}

// FreshCheckpoint is Checkpoint, and signs one before if the log has grown and
// the latest is older than two seconds. It is cheap however many ask. While
// nothing can be written it returns the latest that there is.
func (l *Log) FreshCheckpoint(ctx context.Context) ([]byte, error) {
	l.mu.Lock()
	fresh := l.failing || l.latest.tree.N == l.next || time.Since(l.signed) < freshFor
	l.mu.Unlock()
	if !fresh {
		err := l.SignCheckpoint(ctx)
		if broken := (*WriteError)(nil); err != nil && !errors.As(err, &broken) {
			return nil, err
		}
	}
	return l.Checkpoint(), nil
}

// Anchor is the newest anchor that the log has signed; false if it has signed
// none. A caller of [Open] that finds less than it in its other store has had
// that store, alone, put back to an earlier state. It never falls, until
// [Log.AcceptAnchor].
func (l *Log) Anchor() (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest.anchor, l.latest.anchored
}

// AcceptAnchor is the operator's word that the other store is to be taken as
// it is: checkpoints carry its number from now on, even if it is lower.
func (l *Log) AcceptAnchor() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mayFall = true
}

// ProveTree proves that the tree of size records, which must not exceed the
// latest checkpoint's, begins with the tree of old records. Check the proof
// with [tlog.CheckTree].
func (l *Log) ProveTree(size, old int64) (tlog.TreeProof, error) {
	if err := l.provable(size); err != nil {
		return nil, err
	}
	return tlog.ProveTree(size, old, hashFile{l.proofs})
}

// ProveFrom is FreshCheckpoint with the proof that its tree begins with that
// of old records, as a client wants it that kept a checkpoint over so many:
// no hashes where old is 0. It fails if the log is shorter than that.
func (l *Log) ProveFrom(ctx context.Context, old int64) ([]byte, tlog.TreeProof, error) {
	if _, err := l.FreshCheckpoint(ctx); err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	c := l.latest
	l.mu.Unlock()
	if old < 0 || old > c.tree.N {
		return nil, nil, fmt.Errorf("the audit log's newest checkpoint covers %d records, fewer than %d", c.tree.N, old)
	}
	if old == 0 {
		return bytes.Clone(c.note), nil, nil
	}
	proof, err := proveTree(c.tree, old, hashFile{l.proofs})
	if err != nil {
		return nil, nil, err
	}
	return bytes.Clone(c.note), proof, nil
}

// proveTree makes a proof and checks it.
func proveTree(tree tlog.Tree, old int64, stored hashFile) (tlog.TreeProof, error) {
	earlier, err := readFrontier(old, stored)
	if err != nil {
		return nil, err
	}
	proof, err := tlog.ProveTree(tree.N, old, stored)
	if err != nil {
		return nil, err
	}
	if tlog.CheckTree(proof, tree.N, tree.Hash, old, earlier.root()) != nil {
		return nil, errProof
	}
	return proof, nil
}

// ProveRecord proves that record seq is in the tree of size records, which
// must not exceed the latest checkpoint's. Check the proof with
// [tlog.CheckRecord] and the [tlog.RecordHash] of the line.
func (l *Log) ProveRecord(size, seq int64) (tlog.RecordProof, error) {
	if err := l.provable(size); err != nil {
		return nil, err
	}
	return tlog.ProveRecord(size, seq, hashFile{l.proofs})
}

func (l *Log) provable(size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size > l.latest.tree.N {
		return fmt.Errorf("no checkpoint covers %d records yet", size)
	}
	return nil
}
