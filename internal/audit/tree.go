package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A frontier is what a Merkle tree must remember to grow: the roots of its
// complete subtrees, one for each set bit of its size. The zero value is the
// empty tree.
type frontier struct {
	n     int64
	peaks [63]tlog.Hash // peaks[k] holds 1<<k records if bit k of n is set
}

// push adds a leaf and appends the hashes that it completes to stored, in the
// order of [tlog.StoredHashes].
func (f *frontier) push(h tlog.Hash, stored []byte) []byte {
	stored = append(stored, h[:]...)
	level := 0
	for n := f.n; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(f.peaks[level], h)
		stored = append(stored, h[:]...)
		level++
	}
	f.peaks[level] = h
	f.n++
	return stored
}

// root is the tree's hash as in RFC 6962 section 2.1.
func (f *frontier) root() tlog.Hash {
	if f.n == 0 {
		return sha256.Sum256(nil)
	}
	level := bits.TrailingZeros64(uint64(f.n))
	h := f.peaks[level]
	for level++; f.n>>level != 0; level++ {
		if f.n>>level&1 == 1 {
			h = tlog.NodeHash(f.peaks[level], h)
		}
	}
	return h
}

func (f *frontier) tree() tlog.Tree { return tlog.Tree{N: f.n, Hash: f.root()} }

// readFrontier loads the frontier of the tree of n records from stored hashes.
func readFrontier(n int64, r tlog.HashReader) (frontier, error) {
	f := frontier{n: n}
	var indexes []int64
	for level := range f.peaks {
		if n>>level&1 == 1 {
			indexes = append(indexes, tlog.StoredHashIndex(level, n>>level-1))
		}
	}
	hashes, err := r.ReadHashes(indexes)
	if err != nil {
		return frontier{}, err
	}
	for level := range f.peaks {
		if n>>level&1 == 1 {
			f.peaks[level], hashes = hashes[0], hashes[1:]
		}
	}
	return f, nil
}

// A hashFile reads stored hashes. Safe for concurrent use.
type hashFile struct{ r io.ReaderAt }

// ReadHashes implements [tlog.HashReader].
func (h hashFile) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if _, err := h.r.ReadAt(hashes[i][:], index*tlog.HashSize); errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading stored hash %d: %w", index, io.ErrUnexpectedEOF)
		} else if err != nil {
			return nil, fmt.Errorf("reading stored hash %d: %w", index, err)
		}
	}
	return hashes, nil
}

// leafHash is [tlog.RecordHash] in one call of SHA-256; scratch is memory.
func leafHash(text []byte, scratch *[]byte) tlog.Hash {
	b := append((*scratch)[:0], 0) // RFC 6962, section 2.1: the prefix of a leaf
	b = append(b, text...)
	*scratch = b
	return sha256.Sum256(b)
}

// hashBytes is the size of the stored hashes of n records.
func hashBytes(n int64) int64 { return tlog.HashSize * tlog.StoredHashCount(n) }
