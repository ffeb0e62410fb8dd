package backup

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"moongate/internal/passphrase"
)

// A sealed stream is
//
//	moongate gateway backup, version 1
//	kdf DERIVATION
//	pieces
//
// Each piece is at most pieceSize bytes under AES-256-GCM, with the first two
// lines as context. Its nonce is its number, and whether it is the last one: no
// piece can be dropped, repeated, moved, or taken for the end (the STREAM
// construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015). The key is of
// one file alone, by the derivation's salt.
const (
	firstLine = "moongate gateway backup, version 1\n"
	kdfField  = "kdf "
	pieceSize = 64 << 10
	maxLine   = 200 // of the header, in bytes
	tagSize   = 16
)

// Bounds of a passphrase in bytes.
const (
	MinPassphrase = 12
	MaxPassphrase = 1024
)

// ErrPassphrase: the passphrase is wrong, or the file was changed or is not
// whole; nobody can tell which.
var ErrPassphrase = errors.New("the passphrase is wrong, or the backup was changed or is not whole")

// CheckPassphrase says what is wrong with a passphrase for a new backup.
func CheckPassphrase(pass []byte) error {
	if len(pass) < MinPassphrase || len(pass) > MaxPassphrase {
		return fmt.Errorf("the passphrase has %d bytes; expected %d to %d", len(pass), MinPassphrase, MaxPassphrase)
	}
	return nil
}

func gcmOf(kdf passphrase.KDF, pass []byte) (cipher.AEAD, error) {
	key := kdf.Derive(pass)
	defer clear(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce of the n-th piece.
func nonce(n uint64, last bool) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint64(b[3:11], n)
	if last {
		b[11] = 1
	}
	return b
}

// sealer writes a sealed stream. Close writes its last piece.
type sealer struct {
	w      io.Writer
	gcm    cipher.AEAD
	header []byte
	buf    []byte
	n      uint64
}

func newSealer(w io.Writer, pass []byte, cost passphrase.Cost) (*sealer, error) {
	if err := CheckPassphrase(pass); err != nil {
		return nil, err
	}
	kdf := passphrase.New(cost)
	gcm, err := gcmOf(kdf, pass)
	if err != nil {
		return nil, err
	}
	s := &sealer{w: w, gcm: gcm, header: []byte(firstLine + kdfField + kdf.String() + "\n"), buf: make([]byte, 0, pieceSize+tagSize)}
	_, err = w.Write(s.header)
	return s, err
}

func (s *sealer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if len(s.buf) == pieceSize { // there is more: this one is not the last
			if err := s.flush(false); err != nil {
				return written, err
			}
		}
		n := min(pieceSize-len(s.buf), len(p))
		s.buf = append(s.buf, p[:n]...)
		p, written = p[n:], written+n
	}
	return written, nil
}

func (s *sealer) flush(last bool) error {
	_, err := s.w.Write(s.gcm.Seal(s.buf[:0], nonce(s.n, last), s.buf, s.header))
	s.buf, s.n = s.buf[:0], s.n+1
	return err
}

func (s *sealer) Close() error { return s.flush(true) }

// opener reads a sealed stream. What it returns is authentic; that it is whole
// is certain at io.EOF alone.
type opener struct {
	r      *bufio.Reader
	gcm    cipher.AEAD
	header []byte
	buf    []byte // room for a sealed piece
	plain  []byte // what is left of the opened one
	n      uint64
	done   bool
}

func newOpener(r io.Reader, pass []byte) (*opener, error) {
	o := &opener{r: bufio.NewReaderSize(r, pieceSize+tagSize+1), buf: make([]byte, pieceSize+tagSize)}
	first, err := o.line()
	if err != nil || first != firstLine {
		return nil, errors.New("this is no backup of a gateway, or one of a later version")
	}
	second, err := o.line()
	text, is := strings.CutPrefix(strings.TrimSuffix(second, "\n"), kdfField)
	if err != nil || !is {
		return nil, errors.New("the backup's second line is damaged")
	}
	kdf, err := passphrase.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the backup's second line is damaged: %w", err)
	}
	o.header = []byte(first + second)
	o.gcm, err = gcmOf(kdf, pass)
	return o, err
}

// line reads a line of the header.
func (o *opener) line() (string, error) {
	var b strings.Builder
	for b.Len() < maxLine {
		c, err := o.r.ReadByte()
		if err != nil {
			return "", err
		}
		b.WriteByte(c)
		if c == '\n' {
			return b.String(), nil
		}
	}
	return "", errors.New("a line is too long")
}

func (o *opener) Read(p []byte) (int, error) {
	for len(o.plain) == 0 {
		if o.done {
			return 0, io.EOF
		}
		if err := o.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.plain)
	o.plain = o.plain[n:]
	return n, nil
}

func (o *opener) next() error {
	n, err := io.ReadFull(o.r, o.buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	last := err != nil
	if !last {
		_, peek := o.r.Peek(1)
		last = errors.Is(peek, io.EOF)
	}
	if o.plain, err = o.gcm.Open(o.buf[:0], nonce(o.n, last), o.buf[:n], o.header); err != nil {
		return ErrPassphrase
	}
	o.n, o.done = o.n+1, last
	return nil
}
