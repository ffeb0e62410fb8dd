package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// copySegment copies a segment to the archive, checks the copy against the
// tree before it and the checkpoint over its end, and writes its hashes beside
// it. It returns the tree behind the segment.
func copySegment(ctx context.Context, d disk, file segmentFile, to string, start frontier, end checkpoint) (frontier, error) {
	target := segmentPath(to, file.number)
	check := func(path string) error {
		_, err := checkSegment(ctx, path, start, end, io.Discard)
		return err
	}
	if _, err := os.Stat(target); err == nil {
		// Of a call that a crash cut short.
		if err := check(target); err != nil {
			return start, fmt.Errorf("%s is there, and not what it should be: %w; move it away", target, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return start, err
	} else if err := copyWhole(ctx, d, file.path, target, check); err != nil {
		return start, err
	}
	var tree frontier
	err := copyFile(d, archivedHashes(to, file.number), func(w io.Writer) error {
		var err error
		tree, err = checkSegment(ctx, target, start, end, w)
		return err
	}, nil)
	return tree, err
}

func copyWhole(ctx context.Context, d disk, from, to string, check func(path string) error) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	return copyFile(d, to, func(w io.Writer) error {
		_, err := io.Copy(w, cancelled{ctx, source})
		return err
	}, check)
}

// copyFile makes or replaces a file: what fill writes is fsynced and passes
// check, if there is one, before it has the name.
func copyFile(d disk, path string, fill func(io.Writer) error, check func(path string) error) error {
	part := path + ".part"
	if err := d.remove(part); err != nil {
		return err
	}
	f, err := d.openAppend(part)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<18)
	err = fill(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && check != nil {
		err = check(part)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copying to %s: %w", path, err), d.remove(part))
	}
	return d.rename(part, path)
}

// checkSegment reads a segment's records, which must continue the tree start
// and end with the tree that was signed; it writes their hashes to w.
func checkSegment(ctx context.Context, path string, start frontier, end checkpoint, w io.Writer) (frontier, error) {
	file, err := os.Open(path)
	if err != nil {
		return start, err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(cancelled{ctx, file}, maxLine)
	tree := start
	var stored, scratch []byte
	for {
		text, err := lines.ReadSlice('\n')
		if err == io.EOF && len(text) == 0 {
			break
		} else if err != nil {
			return start, fmt.Errorf("reading record %d: %w", tree.n, err)
		}
		text = text[:len(text)-1]
		event, err := ParseRecord(text)
		if err != nil || event.Seq != tree.n {
			return start, fmt.Errorf("record %d is not in its place", tree.n)
		}
		stored = tree.push(leafHash(text, &scratch), stored[:0])
		if _, err := w.Write(stored); err != nil {
			return start, err
		}
	}
	if tree.n != end.tree.N || tree.root() != end.tree.Hash {
		return start, fmt.Errorf("records %d to %d are not those of the checkpoint over %d", start.n, tree.n-1, end.tree.N)
	}
	return tree, nil
}

// archivedHashes is the file of the hashes of one segment in an archive.
func archivedHashes(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%06d", hashesPrefix, number))
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
