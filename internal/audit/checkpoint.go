package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
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

// maxCheckpoint bounds one entry of the file of checkpoints.
const maxCheckpoint = 4096

var errCheckpoint = errors.New("malformed checkpoint")

// A checkpoint is a signed note and what it says.
type checkpoint struct {
	tree     tlog.Tree
	anchor   uint64 // Options.Anchor when it was signed
	anchored bool   // it has one
	note     []byte
}

// anchorPrefix begins the one extension line that a checkpoint may have.
const anchorPrefix = "anchor "

// sign makes the note of c, which has none yet.
func (c *checkpoint) sign(signer note.Signer) error {
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), c.tree.N, c.tree.Hash)
	if c.anchored {
		text += fmt.Sprintf("%s%d\n", anchorPrefix, c.anchor)
	}
	var err error
	c.note, err = note.Sign(&note.Note{Text: text}, signer)
	return err
}

// ParseCheckpoint checks a signed checkpoint against the verifier key of the
// log (the line in audit.pub) and returns the tree that it speaks of. Further
// signatures, by keys that are not this one, are let through unread.
func ParseCheckpoint(signed []byte, verifierKey string) (tlog.Tree, error) {
	c, err := parseCheckpoint(signed, verifierKey)
	return c.tree, err
}

// CheckpointAnchor is ParseCheckpoint for the anchor; false if it has none.
func CheckpointAnchor(signed []byte, verifierKey string) (uint64, bool, error) {
	c, err := parseCheckpoint(signed, verifierKey)
	return c.anchor, c.anchored, err
}

func parseCheckpoint(signed []byte, verifierKey string) (checkpoint, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return checkpoint{}, fmt.Errorf("parsing verifier key: %w", err)
	}
	return openCheckpoint(signed, verifier)
}

// openCheckpoint checks the signature; the checkpoint has a copy of the note.
func openCheckpoint(signed []byte, verifier note.Verifier) (checkpoint, error) {
	if len(signed) > maxCheckpoint {
		return checkpoint{}, errCheckpoint
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return checkpoint{}, fmt.Errorf("opening checkpoint: %w", err)
	}
	for _, s := range n.Sigs { // note lets the last character's unused bits pass
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return checkpoint{}, errCheckpoint
		}
	}
	c, err := parseCheckpointText(n.Text, verifier.Name())
	if err != nil {
		return checkpoint{}, err
	}
	c.note = bytes.Clone(signed)
	return c, nil
}

// parseCheckpointText reads the text of a checkpoint: strictly three lines,
// and at most one more, the anchor.
func parseCheckpointText(text, origin string) (checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || len(lines) > 5 || lines[len(lines)-1] != "" || lines[0] != origin {
		return checkpoint{}, errCheckpoint
	}
	n, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != lines[1] {
		return checkpoint{}, errCheckpoint
	}
	hash, err := tlog.ParseHash(lines[2])
	if err != nil || hash.String() != lines[2] {
		return checkpoint{}, errCheckpoint
	}
	c := checkpoint{tree: tlog.Tree{N: n, Hash: hash}}
	if len(lines) == 4 {
		return c, nil
	}
	digits, found := strings.CutPrefix(lines[3], anchorPrefix)
	c.anchor, err = strconv.ParseUint(digits, 10, 64)
	if !found || err != nil || strconv.FormatUint(c.anchor, 10) != digits {
		return checkpoint{}, errCheckpoint
	}
	c.anchored = true
	return c, nil
}

// An entry of the file of checkpoints.
type entry struct {
	text  []byte // cut when it is too long to be one; valid until the next read
	size  int64  // in the file
	whole bool   // it has the shape of one: a note and its empty line
	last  bool   // nothing follows it
}

// note is the signed note in a whole entry.
func (e entry) note() []byte { return e.text[:len(e.text)-1] }

// A checkpointReader takes the file of checkpoints apart, entry by entry. An
// entry ends with its second empty line, so that rubbish behind it takes
// nothing from it, and at the latest where a line is the origin, so that the
// reader finds its feet again behind one that is damaged.
type checkpointReader struct {
	r      *bufio.Reader
	origin []byte // the first line of an entry
	text   []byte
	begun  bool // that line of the next entry has been read already
}

func newCheckpointReader(r io.Reader, origin string) *checkpointReader {
	return &checkpointReader{r: bufio.NewReaderSize(r, maxCheckpoint), origin: []byte(origin + "\n")}
}

// next returns the next entry, or io.EOF.
func (c *checkpointReader) next() (entry, error) {
	c.text = c.text[:0]
	var size int64
	if c.begun {
		c.text = append(c.text, c.origin...)
		size = int64(len(c.origin))
		c.begun = false
	}
	for empty := 0; empty < 2; {
		line, err := c.r.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return entry{}, fmt.Errorf("reading checkpoints: %w", err)
		}
		if len(line) == 1 && line[0] == '\n' {
			empty++
		}
		if size > 0 && bytes.Equal(line, c.origin) {
			c.begun = true
			break
		}
		size += int64(len(line))
		c.text = append(c.text, line[:min(len(line), maxCheckpoint+1-len(c.text))]...)
		if err == io.EOF {
			break
		}
	}
	if size == 0 {
		return entry{}, io.EOF
	}
	lines := bytes.Count(c.text, []byte("\n")) // an anchor is the seventh
	whole := len(c.text) <= maxCheckpoint && bytes.HasPrefix(c.text, c.origin) &&
		bytes.HasSuffix(c.text, []byte("\n\n")) && (lines == 6 || lines == 7)
	_, err := c.r.Peek(1)
	return entry{text: c.text, size: size, whole: whole, last: !c.begun && err == io.EOF}, nil
}

// ReadVerifierKey reads the verifier key in a log's directory. Who doubts the
// directory takes the key from elsewhere.
func ReadVerifierKey(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, publicName))
	if err != nil {
		return "", fmt.Errorf("reading verifier key: %w", err)
	}
	key := strings.TrimSuffix(string(data), "\n")
	if _, err := note.NewVerifier(key); err != nil {
		return "", fmt.Errorf("reading verifier key: %w", err)
	}
	return key, nil
}

// verifierKeyOf derives the public line from the private one.
func verifierKeyOf(signerKey string) (string, error) {
	if _, err := note.NewSigner(signerKey); err != nil {
		return "", err // never the key itself
	}
	// PRIVATE+KEY+<name>+<hash>+<base64 of algorithm byte and seed>, as
	// NewSigner has just found; the seed's base64 may contain a plus.
	fields := strings.SplitN(signerKey, "+", 5)
	key, err := base64.StdEncoding.DecodeString(fields[4])
	if err != nil {
		return "", errors.New("malformed signer key")
	}
	private := ed25519.NewKeyFromSeed(key[1:])
	return note.NewEd25519VerifierKey(fields[2], private.Public().(ed25519.PublicKey))
}
