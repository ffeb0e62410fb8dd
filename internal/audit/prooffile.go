package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A proof that a record is in the log is a file of C2SP tlog-proof: its line
// is the extra data, so that the file and the public key are all it takes.
//
//	c2sp.org/tlog-proof@v1
//	extra <base64 of the record's line>
//	index <record number>
//	<base64 of a hash>, a line for each, from the leaf's sibling upwards
//	<empty line>
//	<the checkpoint>
//
// A proof that one checkpoint continues another is laid out alike:
//
//	moongate-audit-consistency/1
//	<base64 of a hash>, a line for each
//	<empty line>
//	<the earlier checkpoint>
//	<empty line>
//	<the later checkpoint>
const (
	proofHeader       = "c2sp.org/tlog-proof@v1"
	consistencyHeader = "moongate-audit-consistency/1"

	maxProofHashes = 64 * 2
	maxProof       = 64<<10 + 2*maxCheckpoint
)

var errProofFile = errors.New("malformed proof file")

// ProveFile makes the proof file for record seq from a log's directory, or a
// copy of one: by the latest checkpoint, which must cover it. A record that is
// archived is read from the archives. The proof is checked before it is
// returned.
func ProveFile(dir, verifierKey string, seq int64, archives ...string) ([]byte, error) {
	latest, stored, err := openProofs(dir, verifierKey)
	if err != nil {
		return nil, err
	}
	defer stored.Close()
	if seq < 0 || seq >= latest.tree.N {
		return nil, fmt.Errorf("proving record %d: the latest checkpoint covers records 0 to %d", seq, latest.tree.N-1)
	}
	record, err := findRecord(seq, append([]string{dir}, archives...))
	if err != nil {
		return nil, err
	}
	line := record.AppendJSON(nil)
	proof, err := tlog.ProveRecord(latest.tree.N, seq, hashFile{stored})
	if err != nil {
		return nil, fmt.Errorf("proving record %d: %w", seq, err)
	}
	if err := tlog.CheckRecord(proof, latest.tree.N, latest.tree.Hash, seq, tlog.RecordHash(line)); err != nil {
		return nil, fmt.Errorf("proving record %d: it is not what was signed, or the stored hashes are damaged; verify the log", seq)
	}
	b := fmt.Appendf(nil, "%s\nextra %s\nindex %d\n", proofHeader, base64.StdEncoding.EncodeToString(line), seq)
	return append(appendHashes(b, proof), latest.note...), nil
}

// findRecord reads one record from the first directory that has it.
func findRecord(seq int64, dirs []string) (Event, error) {
	var found *Event
	for _, dir := range dirs {
		err := eachRecord(dir, seq, func(e Event) bool { found = &e; return false })
		if err != nil {
			return Event{}, err
		}
		if found != nil && found.Seq == seq {
			return *found, nil
		}
	}
	return Event{}, fmt.Errorf("record %d is archived: name the directory that it was moved to", seq)
}

// openProofs reads the latest checkpoint in dir and opens its stored hashes.
func openProofs(dir, verifierKey string) (checkpoint, *os.File, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return checkpoint{}, nil, fmt.Errorf("parsing verifier key: %w", err)
	}
	s := &state{verifierKey: verifierKey}
	if err := s.readLatest(dir); err != nil {
		return checkpoint{}, nil, err
	}
	if _, err := openCheckpoint(s.latest.note, verifier); err != nil {
		return checkpoint{}, nil, err
	}
	stored, err := os.Open(filepath.Join(dir, hashesName))
	if err != nil {
		return checkpoint{}, nil, fmt.Errorf("proving: %w", err)
	}
	return s.latest, stored, nil
}

func appendHashes(b []byte, hashes []tlog.Hash) []byte {
	for _, h := range hashes {
		b = fmt.Appendf(b, "%v\n", h)
	}
	return append(b, '\n')
}

// VerifyProof checks a proof file against the log's verifier key and returns
// the record that it proves: the log's signer has signed that it is there.
func VerifyProof(file []byte, verifierKey string) (Event, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Event{}, fmt.Errorf("parsing verifier key: %w", err)
	}
	head, signed, found := bytes.Cut(file, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(file) > maxProof || len(lines) < 3 || lines[0] != proofHeader {
		return Event{}, errProofFile
	}
	extra, isExtra := strings.CutPrefix(lines[1], "extra ")
	text, err := base64.StdEncoding.Strict().DecodeString(extra)
	if !isExtra || err != nil {
		return Event{}, errProofFile
	}
	digits, isIndex := strings.CutPrefix(lines[2], "index ")
	seq, err := strconv.ParseInt(digits, 10, 64)
	if !isIndex || err != nil || seq < 0 || strconv.FormatInt(seq, 10) != digits {
		return Event{}, errProofFile
	}
	hashes, err := parseHashes(lines[3:])
	if err != nil {
		return Event{}, err
	}
	event, err := ParseRecord(text)
	if err != nil {
		return Event{}, fmt.Errorf("verifying proof: %w", err)
	}
	if event.Seq != seq {
		return Event{}, fmt.Errorf("verifying proof: it is about record %d, and holds record %d", seq, event.Seq)
	}
	c, err := openCheckpoint(signed, verifier)
	if err != nil {
		return Event{}, fmt.Errorf("verifying proof: %w", err)
	}
	if seq >= c.tree.N {
		return Event{}, fmt.Errorf("verifying proof: its checkpoint covers %d records, and not record %d", c.tree.N, seq)
	}
	if err := tlog.CheckRecord(hashes, c.tree.N, c.tree.Hash, seq, tlog.RecordHash(text)); err != nil {
		return Event{}, fmt.Errorf("verifying proof: record %d is not what was signed", seq)
	}
	return event, nil
}

func parseHashes(lines []string) ([]tlog.Hash, error) {
	if len(lines) > maxProofHashes {
		return nil, errProofFile
	}
	hashes := make([]tlog.Hash, len(lines))
	for i, text := range lines {
		var err error
		if hashes[i], err = tlog.ParseHash(text); err != nil || hashes[i].String() != text {
			return nil, errProofFile
		}
	}
	return hashes, nil
}

// ConsistencyFile makes the file that proves that the latest checkpoint in a
// log's directory continues an earlier one.
func ConsistencyFile(dir, verifierKey string, earlier []byte) ([]byte, error) {
	old, err := parseCheckpoint(earlier, verifierKey)
	if err != nil {
		return nil, fmt.Errorf("proving consistency: %w", err)
	}
	latest, stored, err := openProofs(dir, verifierKey)
	if err != nil {
		return nil, err
	}
	defer stored.Close()
	if old.tree.N > latest.tree.N {
		return nil, fmt.Errorf("proving consistency: the earlier checkpoint covers %d records, the latest one here %d", old.tree.N, latest.tree.N)
	}
	var proof tlog.TreeProof
	if old.tree.N > 0 {
		if proof, err = tlog.ProveTree(latest.tree.N, old.tree.N, hashFile{stored}); err != nil {
			return nil, fmt.Errorf("proving consistency: %w", err)
		}
	}
	if err := checkConsistent(proof, old.tree, latest.tree); err != nil {
		return nil, fmt.Errorf("proving consistency: %w", err)
	}
	b := appendHashes([]byte(consistencyHeader+"\n"), proof)
	b = append(append(b, old.note...), '\n')
	return append(b, latest.note...), nil
}

// VerifyConsistency checks a file of [ConsistencyFile] against the log's
// verifier key, and returns the trees of its two checkpoints, the earlier one
// first: it is the beginning of the later one.
func VerifyConsistency(file []byte, verifierKey string) (tlog.Tree, tlog.Tree, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return tlog.Tree{}, tlog.Tree{}, fmt.Errorf("parsing verifier key: %w", err)
	}
	fail := func(err error) (tlog.Tree, tlog.Tree, error) {
		return tlog.Tree{}, tlog.Tree{}, fmt.Errorf("verifying consistency: %w", err)
	}
	head, notes, found := bytes.Cut(file, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(file) > maxProof || lines[0] != consistencyHeader {
		return fail(errProofFile)
	}
	hashes, err := parseHashes(lines[1:])
	if err != nil {
		return fail(err)
	}
	entries := newCheckpointReader(bytes.NewReader(append(bytes.Clone(notes), '\n')), verifier.Name())
	var both [2]checkpoint
	for i := range both {
		e, err := entries.next()
		if err != nil || !e.whole {
			return fail(errProofFile)
		}
		if both[i], err = openCheckpoint(e.note(), verifier); err != nil {
			return fail(err)
		}
	}
	if _, err := entries.next(); err != io.EOF {
		return fail(errProofFile)
	}
	if err := checkConsistent(hashes, both[0].tree, both[1].tree); err != nil {
		return fail(err)
	}
	return both[0].tree, both[1].tree, nil
}

// checkConsistent is [tlog.CheckTree], and knows the empty tree.
func checkConsistent(proof tlog.TreeProof, earlier, later tlog.Tree) error {
	if earlier.N == 0 {
		if len(proof) > 0 || earlier.Hash != new(frontier).root() {
			return errProofFile
		}
		return nil
	}
	if earlier.N > later.N || tlog.CheckTree(proof, later.N, later.Hash, earlier.N, earlier.Hash) != nil {
		return fmt.Errorf("the checkpoint over %d records does not continue the one over %d: history was rewritten, or the proof is wrong", later.N, earlier.N)
	}
	return nil
}
