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

// signCheckpoint makes the signed note for a tree.
func signCheckpoint(tree tlog.Tree, signer note.Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), tree.N, tree.Hash)
	return note.Sign(&note.Note{Text: text}, signer)
}

// ParseCheckpoint checks a signed checkpoint against the verifier key of the
// log (the line in audit.pub) and returns the tree that it speaks of. Further
// signatures, by keys that are not this one, are let through unread.
func ParseCheckpoint(checkpoint []byte, verifierKey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("parsing verifier key: %w", err)
	}
	return openCheckpoint(checkpoint, verifier)
}

func openCheckpoint(checkpoint []byte, verifier note.Verifier) (tlog.Tree, error) {
	if len(checkpoint) > maxCheckpoint {
		return tlog.Tree{}, errCheckpoint
	}
	n, err := note.Open(checkpoint, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("opening checkpoint: %w", err)
	}
	return parseTree(n.Text, verifier.Name())
}

// parseTree reads the text of a checkpoint, strictly three lines.
func parseTree(text, origin string) (tlog.Tree, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != origin {
		return tlog.Tree{}, errCheckpoint
	}
	n, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != lines[1] {
		return tlog.Tree{}, errCheckpoint
	}
	hash, err := tlog.ParseHash(lines[2])
	if err != nil || hash.String() != lines[2] {
		return tlog.Tree{}, errCheckpoint
	}
	return tlog.Tree{N: n, Hash: hash}, nil
}

// An entry of the file of checkpoints.
type entry struct {
	text  []byte // cut when it is too long to be one; valid until the next read
	size  int64  // in the file
	whole bool   // it has the shape of one: a note and its empty line
}

// note is the signed note in a whole entry.
func (e entry) note() []byte { return e.text[:len(e.text)-1] }

// A checkpointReader takes the file of checkpoints apart, entry by entry. An
// entry begins where a line is the origin, so that it finds its feet again
// behind one that is damaged.
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
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return entry{}, fmt.Errorf("reading checkpoints: %w", err)
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
	whole := len(c.text) <= maxCheckpoint && bytes.HasPrefix(c.text, c.origin) &&
		bytes.HasSuffix(c.text, []byte("\n\n")) && bytes.Count(c.text, []byte("\n")) == 6
	return entry{text: c.text, size: size, whole: whole}, nil
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
