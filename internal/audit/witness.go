package audit

import (
	"bufio"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// A witness reads the leaves among the stored hashes. A nil one has none.
type witness struct {
	file    *os.File
	r       *bufio.Reader
	tree    frontier // over the leaves read
	scratch []byte
}

func openWitness(dir string) *witness {
	f, err := os.Open(filepath.Join(dir, hashesName))
	if err != nil {
		return nil // the records do without
	}
	return &witness{file: f, r: bufio.NewReaderSize(f, 1<<16)}
}

// next is the next leaf. It says false at the end of the file, or of its own
// consistency: the hashes above the leaves must follow from them.
func (w *witness) next() (tlog.Hash, bool) {
	var leaf, stored tlog.Hash
	if w == nil {
		return leaf, false
	}
	if _, err := io.ReadFull(w.r, leaf[:]); err != nil {
		return leaf, false
	}
	w.scratch = w.tree.push(leaf, w.scratch[:0])
	for above := w.scratch[tlog.HashSize:]; len(above) > 0; above = above[tlog.HashSize:] {
		if _, err := io.ReadFull(w.r, stored[:]); err != nil || stored != tlog.Hash(above[:tlog.HashSize]) {
			return leaf, false
		}
	}
	return leaf, true
}

func (w *witness) close() {
	if w != nil && w.file != nil {
		w.file.Close()
		w.file = nil
	}
}
