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
	files   []*os.File
	r       *bufio.Reader
	tree    frontier // over the leaves read
	scratch []byte
}

// openWitness reads the hashes in dir, from those of the first record after
// start on. A directory that has none, but only segments, may have their
// hashes beside them, as an archive has.
func openWitness(dir string, files []segmentFile, start frontier) *witness {
	w := &witness{tree: start}
	if f, err := os.Open(filepath.Join(dir, hashesName)); err == nil {
		w.files = append(w.files, f)
		if _, err := f.Seek(hashBytes(start.n), io.SeekStart); err != nil {
			w.close()
			return nil
		}
	} else {
		for _, segment := range files {
			f, err := os.Open(archivedHashes(filepath.Dir(segment.path), segment.number))
			if err != nil {
				break
			}
			w.files = append(w.files, f)
		}
	}
	if len(w.files) == 0 {
		return nil // the records do without
	}
	readers := make([]io.Reader, len(w.files))
	for i, f := range w.files {
		readers[i] = f
	}
	w.r = bufio.NewReaderSize(io.MultiReader(readers...), 1<<16)
	return w
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
	if w == nil {
		return
	}
	for _, f := range w.files {
		f.Close()
	}
	w.files = nil
}
