package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"moongate/internal/durable"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// A client that remembers the HSM's last audit checkpoint notices when the
// HSM's past is changed, by whoever it may be: each new checkpoint must be
// proved to continue the remembered one (RFC 9162, section 2.1.4).

// auditState is a checkpoint whose signature was verified.
type auditState struct {
	object.AuditCheckpoint
	tree tlog.Tree
}

// auditError says that the HSM's audit log is not the one that we remember.
type auditError struct{ what, fix string }

func (e *auditError) Error() string { return e.what }

// errNoAudit says that the HSM shows no audit log, and never did.
var errNoAudit = errors.New("the HSM has no audit log to remember a checkpoint of")

// checkAudit fetches the log's checkpoint, has its consistency with the
// remembered one proved, and remembers it instead. It returns what there is to
// tell. Where nothing is remembered yet, the HSM is believed.
func checkAudit(p patience, l *link, config *Config) (string, error) {
	path := config.CheckpointFile
	old, err := loadCheckpoint(path)
	if err != nil {
		return "", err
	}
	fresh, err := fetchCheckpoint(p, l)
	switch {
	case object.CodeOf(err) == ErrNotSupported && old == nil:
		return "", errNoAudit
	case object.CodeOf(err) == ErrNotSupported:
		return "", &auditError{
			fmt.Sprintf("the HSM does not show its audit log any more, of which we remember %d records", old.tree.N),
			"find out why: it did before; remove " + path + " only where the HSM is another one",
		}
	case err != nil:
		return "", err
	case old == nil:
		if err := saveCheckpoint(path, fresh); err != nil {
			return "", err
		}
		config.Logger.Warn("trusting the HSM's audit log on first sight; compare its key with the one that its administrator has",
			"key", fresh.Verifier, "records", fresh.tree.N, "file", path)
		return fmt.Sprintf("trusted on first sight: %d records, key %s", fresh.tree.N, fresh.Verifier), nil
	}
	next, err := continues(p, l, old, fresh, path)
	if err != nil {
		return "", err
	}
	if next.tree.N > old.tree.N {
		// Consistent as it is: an older checkpoint that stays is still a check.
		if err := saveCheckpoint(path, next); err != nil {
			config.Logger.Warn("the HSM's audit log is in order, but its checkpoint cannot be kept", "error", err)
		}
	}
	return fmt.Sprintf("%d records, which continue the %d remembered", next.tree.N, old.tree.N), nil
}

// continues has it proved that the log behind fresh continues the one behind
// old, and returns the newest checkpoint for which that is so.
func continues(p patience, l *link, old, fresh *auditState, path string) (*auditState, error) {
	if fresh.Verifier != old.Verifier {
		return nil, &auditError{
			fmt.Sprintf("the HSM's audit log has another key: %s, remembered is %s", fresh.Verifier, old.Verifier),
			"if the HSM's administrator has declared a loss of the log and gives you this very key, remove " + path +
				" to accept it; otherwise the log was replaced, and uses of keys may be hidden",
		}
	}
	if err := notRewritten(old, fresh, nil, path); err != nil || fresh.tree.N == old.tree.N || old.tree.N == 0 {
		return fresh, err
	}
	body, err := l.roundTrip(p, wire.OpAuditProof, newOperation(), func(b []byte, _ uint32) []byte {
		return (&wire.ProofRequest{Size: uint64(old.tree.N)}).Append(b)
	})
	if err != nil {
		return nil, fmt.Errorf("asking for the proof that the audit log continues %d records: %w", old.tree.N, err)
	}
	var a wire.ProofAnswer
	if err := a.Decode(body); err != nil {
		return nil, err
	}
	// The log may have grown since.
	newest, err := verifyCheckpoint(object.AuditCheckpoint{Note: a.Proof.Checkpoint.Note, Verifier: old.Verifier})
	if err != nil {
		return nil, err
	}
	proof := make(tlog.TreeProof, len(a.Proof.Hashes))
	for i, h := range a.Proof.Hashes {
		proof[i] = h
	}
	return newest, notRewritten(old, newest, proof, path)
}

// notRewritten refuses a log that has forgotten or changed what we remember.
// Without a proof it looks at what needs none.
func notRewritten(old, fresh *auditState, proof tlog.TreeProof, path string) error {
	fix := "keep " + path + " as evidence and have `moongate-hsm audit verify-copy` run: the HSM's past was changed, or an old copy of it put back; " +
		"remove the file only where you know why"
	if fresh.tree.N < old.tree.N {
		return &auditError{fmt.Sprintf("the HSM's audit log was rolled back: it has %d signed records, and had %d", fresh.tree.N, old.tree.N), fix}
	}
	forked := fresh.tree.N == old.tree.N && fresh.tree.Hash != old.tree.Hash
	if !forked && proof != nil && fresh.tree.N > old.tree.N {
		forked = tlog.CheckTree(proof, fresh.tree.N, fresh.tree.Hash, old.tree.N, old.tree.Hash) != nil
	}
	if forked {
		return &auditError{fmt.Sprintf("the HSM's audit log of %d records does not continue the one of %d that we remember", fresh.tree.N, old.tree.N), fix}
	}
	return nil
}

func fetchCheckpoint(p patience, l *link) (*auditState, error) {
	body, err := l.roundTrip(p, wire.OpAuditCheckpoint, newOperation(), empty)
	if err != nil {
		return nil, fmt.Errorf("asking for the audit log's checkpoint: %w", err)
	}
	var a wire.CheckpointAnswer
	if err := a.Decode(body); err != nil {
		return nil, err
	}
	return verifyCheckpoint(a.Checkpoint)
}

// verifyCheckpoint checks a checkpoint's signature under the key that it comes
// with, and its text: origin, records and root, a line each, and then what the
// log has to say besides, in lines that are not empty (C2SP tlog-checkpoint).
func verifyCheckpoint(c object.AuditCheckpoint) (*auditState, error) {
	bad := func(err error) error { return fmt.Errorf("the audit log's checkpoint: %w", err) }
	verifier, err := note.NewVerifier(c.Verifier)
	if err != nil {
		return nil, bad(err)
	}
	signed, err := note.Open(c.Note, note.VerifierList(verifier))
	if err != nil {
		return nil, bad(err)
	}
	lines := strings.Split(strings.TrimSuffix(signed.Text, "\n"), "\n")
	if len(lines) < 3 || slices.Contains(lines, "") || lines[0] != verifier.Name() {
		return nil, bad(errors.New("its text is not origin, records and root of the log"))
	}
	n, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != lines[1] {
		return nil, bad(errors.New("its second line is not a number of records"))
	}
	hash, err := tlog.ParseHash(lines[2])
	if err != nil || hash.String() != lines[2] {
		return nil, bad(errors.New("its third line is not a hash"))
	}
	return &auditState{c, tlog.Tree{N: n, Hash: hash}}, nil
}

// The file: a line that says what it is, the verifier key, an empty line, the
// signed note.
const (
	checkpointHeader = "moongate audit checkpoint 1\n"
	maxCheckpoint    = len(checkpointHeader) + wire.MaxVerifier + 2 + wire.MaxNote
)

// loadCheckpoint reads what is remembered; nil where nothing is yet.
func loadCheckpoint(path string) (*auditState, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var data []byte
	if err == nil && info.Size() <= int64(maxCheckpoint) {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the remembered audit checkpoint: %w", err)
	}
	state, err := parseCheckpointFile(string(data))
	if err != nil {
		return nil, &auditError{
			fmt.Sprintf("%s holds no audit checkpoint: %v", path, err),
			"put the file back; without it nobody can tell whether the HSM's past was changed since; remove it to begin anew",
		}
	}
	return state, nil
}

func parseCheckpointFile(text string) (*auditState, error) {
	rest, ok := strings.CutPrefix(text, checkpointHeader)
	if !ok {
		return nil, fmt.Errorf("it does not begin with %q", checkpointHeader)
	}
	verifier, signed, ok := strings.Cut(rest, "\n\n")
	if !ok {
		return nil, errors.New("it ends early")
	}
	return verifyCheckpoint(object.AuditCheckpoint{Note: []byte(signed), Verifier: verifier})
}

// saveCheckpoint replaces the file at once and whole. One that another process
// has put there meanwhile and that is newer stays.
func saveCheckpoint(path string, s *auditState) error {
	if there, err := loadCheckpoint(path); err == nil && there != nil && there.Verifier == s.Verifier && there.tree.N >= s.tree.N {
		return nil
	}
	text := checkpointHeader + s.Verifier + "\n\n" + string(s.Note)
	if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
		return &auditError{
			fmt.Sprintf("keeping the audit checkpoint: %v", err),
			"make the file's directory one that we can write, or leave audit-checkpoint out",
		}
	}
	return nil
}
