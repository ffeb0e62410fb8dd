package daemon

import (
	"log/slog"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
)

// TestAuditProof: each state of a log is proved to continue each earlier one,
// and nothing else is.
func TestAuditProof(t *testing.T) {
	t.Parallel()
	log, err := audit.Open(t.TempDir(), audit.Options{Origin: "moongate-hsm/1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := attachment{log: log}
	var earlier []tlog.Tree
	for range 9 {
		checkpoint, err := c.AuditCheckpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tree, err := audit.ParseCheckpoint(checkpoint.Note, checkpoint.Verifier)
		if err != nil {
			t.Fatal(err)
		}
		for _, old := range append(earlier, tree) {
			proof, err := c.AuditProof(t.Context(), uint64(old.N))
			if err != nil {
				t.Fatalf("from %d to %d: %v", old.N, tree.N, err)
			}
			if string(proof.Checkpoint.Note) != string(checkpoint.Note) {
				t.Error("the proof is for another checkpoint")
			}
			var hashes tlog.TreeProof
			for _, h := range proof.Hashes {
				hashes = append(hashes, h)
			}
			if old.N == 0 {
				continue
			}
			if err := tlog.CheckTree(hashes, tree.N, tree.Hash, old.N, old.Hash); err != nil {
				t.Errorf("from %d to %d: %v", old.N, tree.N, err)
			}
		}
		if _, err := c.AuditProof(t.Context(), uint64(tree.N)+1); object.CodeOf(err) != object.ErrArgumentsBad {
			t.Errorf("a log longer than ours: %v", err)
		}
		earlier = append(earlier, tree)
		for range 3 {
			if err := log.Append(audit.Event{Kind: audit.Admin, Action: "test", Outcome: audit.OK}); err != nil {
				t.Fatal(err)
			}
		}
		if err := log.SignCheckpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.AuditProof(t.Context(), 1<<63); object.CodeOf(err) != object.ErrArgumentsBad {
		t.Errorf("a size that is no number of records: %v", err)
	}
}
