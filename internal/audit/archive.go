package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

// A segment is moved away in these steps, each of which can be taken again
// after a crash:
//
//  1. It is copied to the archive under the suffix .part, with its hashes,
//     and fsynced.
//  2. The copy is read back: its records must continue the tree, and give the
//     root of the checkpoint at its end. Then it gets its name.
//  3. The log's file archived is replaced: from now on the segment may be
//     missing.
//  4. The segment is removed from the log.
//
// An archive is a log's directory in small: records.NNNNNN, for each
// hashes.NNNNNN, the checkpoints up to its end, audit.pub, and the file
// archived if it does not begin with the first segment.

// A Segment is a file of records that can be archived: it is closed, and a
// checkpoint covers exactly it and what was before.
type Segment struct {
	Name    string // in the log's directory
	First   int64  // number of its first record
	Records int64
	Bytes   int64
}

// Archivable lists the segments that [Log.Archive] would move, in order.
func (l *Log) Archivable() ([]Segment, error) {
	l.archiving.Lock()
	defer l.archiving.Unlock()
	list, _, err := l.archivable()
	return list, err
}

// archivable is Archivable, with the files; the caller holds archiving.
func (l *Log) archivable() ([]Segment, []segmentFile, error) {
	l.mu.Lock()
	newest, end := l.segment, l.begin
	l.mu.Unlock()
	files, err := segments(l.dir)
	if err != nil {
		return nil, nil, err
	}
	for len(files) > 0 && files[len(files)-1].number >= newest {
		files = files[:len(files)-1]
	}
	list := make([]Segment, len(files))
	for i := len(files) - 1; i >= 0; i-- {
		first, ok, err := firstSeq(files[i].path)
		if err == nil && !ok {
			err = fmt.Errorf("%s does not begin with a record", files[i].path)
		}
		if err != nil {
			return nil, nil, err
		}
		info, err := os.Stat(files[i].path)
		if err != nil {
			return nil, nil, fmt.Errorf("listing segments: %w", err)
		}
		list[i] = Segment{Name: segmentName(files[i].number), First: first, Records: end - first, Bytes: info.Size()}
		end = first
	}
	return list, files, nil
}

// Archive moves every closed segment to the directory to, whose parent must
// exist, and records that, its intent first, as "log.archive". It returns what
// it moved. A segment leaves the log only after its copy was fsynced, read
// back, and found to be what was signed. After an error, or a crash, what is
// left is moved by the next call with the same directory. Calls wait for each
// other; recording goes on meanwhile.
func (l *Log) Archive(ctx context.Context, to string) ([]Segment, error) {
	l.archiving.Lock()
	defer l.archiving.Unlock()
	list, files, err := l.archivable()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	last := list[len(list)-1]
	event := Event{
		Kind: Admin, Action: actionArchive, Outcome: intent,
		Detail: fmt.Sprintf("%s to %s, records %d to %d, to %s", list[0].Name, last.Name, list[0].First, last.First+last.Records-1, to),
	}
	if err := l.AppendDurable(ctx, event); err != nil {
		return nil, err
	}
	moved, err := l.archive(ctx, to, list, files)
	if err != nil {
		err = fmt.Errorf("archiving audit segments, after %d of %d: %w", moved, len(list), err)
	}
	return list[:moved], l.settle(ctx, event, err)
}

// archive returns how many segments it moved.
func (l *Log) archive(ctx context.Context, to string, list []Segment, files []segmentFile) (int, error) {
	verifier, err := note.NewVerifier(l.verifier)
	if err != nil {
		return 0, err
	}
	kept, err := readBoundary(l.dir, verifier)
	if err != nil {
		return 0, err
	}
	signed, err := l.boundaryCheckpoints(verifier, list)
	if err != nil {
		return 0, err
	}
	// A tree that is wrong, because the stored hashes are, does not give the
	// root that was signed at the segment's end.
	tree, err := readFrontier(list[0].First, hashFile{l.proofs})
	if err != nil {
		return 0, err
	}
	before := boundary{segment: files[0].number, tree: tree, checkpoint: signed[list[0].First].checkpoint}
	if err := l.prepareArchive(to, &before); err != nil {
		return 0, err
	}
	for i, file := range files {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		end := list[i].First + list[i].Records
		c, covered := signed[end]
		if !covered {
			return i, fmt.Errorf("no checkpoint covers exactly the %d records up to the end of %s", end, list[i].Name)
		}
		if tree, err = copySegment(ctx, l.disk, file, to, tree, c.checkpoint); err != nil {
			return i, err
		}
		if err := l.copyCheckpoints(to, c.end); err != nil {
			return i, err
		}
		// What a crash kept from being removed is behind the boundary already.
		b := boundary{segment: file.number + 1, tree: tree, checkpoint: c.checkpoint}
		if kept == nil || kept.segment < b.segment {
			if err := l.disk.writeFile(filepath.Join(l.dir, archivedName), b.encode(), 0o600); err != nil {
				return i, err
			}
		}
		if err := l.disk.remove(file.path); err != nil {
			return i, err
		}
	}
	return len(files), nil
}

// prepareArchive makes the directory what the segment behind a boundary can be
// added to: empty, or an archive of this log that ends before it, or has it.
func (l *Log) prepareArchive(to string, before *boundary) error {
	inside, err := filepath.Rel(l.dir, to)
	if err == nil && inside == "." {
		return errors.New("the archive must be another directory than the log's")
	}
	if err := l.disk.mkdir(to); err != nil {
		return err
	}
	public, err := readOptional(to, publicName)
	if err != nil {
		return err
	}
	if public == nil {
		if err := l.disk.writeFile(filepath.Join(to, publicName), []byte(l.verifier+"\n"), 0o644); err != nil {
			return err
		}
	} else if string(public) != l.verifier+"\n" {
		return fmt.Errorf("%s is the archive of another log: its %s has another key", to, publicName)
	}
	there, err := segments(to)
	if err != nil {
		return err
	}
	first := before.segment
	if len(there) == 0 {
		if first == 0 {
			return nil
		}
		if before.checkpoint.tree != before.tree.tree() {
			return fmt.Errorf("no checkpoint covers exactly the %d records before %s", before.tree.n, segmentName(first))
		}
		return l.disk.writeFile(filepath.Join(to, archivedName), before.encode(), 0o600)
	}
	if next := there[len(there)-1].number + 1; first > next || first < there[0].number {
		return fmt.Errorf("%s holds segments %d to %d, and segment %d does not follow: name another directory", to, there[0].number, next-1, first)
	}
	return nil
}

// A placed checkpoint ends at an offset in the file of checkpoints.
type placed struct {
	checkpoint
	end int64
}

// boundaryCheckpoints returns the checkpoints over exactly the beginning and
// end of each segment, by size.
func (l *Log) boundaryCheckpoints(verifier note.Verifier, list []Segment) (map[int64]placed, error) {
	wanted := map[int64]bool{list[0].First: true}
	for _, s := range list {
		wanted[s.First+s.Records] = true
	}
	last := list[len(list)-1]
	source, err := os.Open(filepath.Join(l.dir, checkpointsName))
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	defer source.Close()
	signed := map[int64]placed{}
	offset := int64(0)
	for entries := newCheckpointReader(source, verifier.Name()); ; {
		e, err := entries.next()
		if err != nil && err != io.EOF {
			return nil, err
		}
		if err == io.EOF || !e.whole {
			return signed, nil // the log was opened with these: what follows is being written now
		}
		// Only those that are wanted are checked here; Verify checks all.
		c, err := parseEntry(e, verifier.Name())
		if err != nil || c.tree.N > last.First+last.Records {
			return signed, nil
		}
		offset += e.size
		if wanted[c.tree.N] {
			if c, err = openCheckpoint(e.note(), verifier); err != nil {
				return nil, fmt.Errorf("the checkpoint over %d records: %w", c.tree.N, err)
			}
			signed[c.tree.N] = placed{c, offset}
		}
	}
}

// copyCheckpoints makes the archive's checkpoints the first size bytes of the
// log's. What a crash left of that is a part of these too, and continued.
func (l *Log) copyCheckpoints(to string, size int64) error {
	source, err := os.Open(filepath.Join(l.dir, checkpointsName))
	if err != nil {
		return fmt.Errorf("copying checkpoints: %w", err)
	}
	defer source.Close()
	path := filepath.Join(to, checkpointsName)
	target, err := l.disk.openAppend(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() < size {
		_, err = io.Copy(target, io.NewSectionReader(source, info.Size(), size-info.Size()))
	}
	if err == nil {
		err = target.Sync()
	}
	if err = errors.Join(err, target.Close()); err != nil {
		return fmt.Errorf("copying checkpoints: %w", err)
	}
	return nil
}

// parseEntry reads a checkpoint without looking at its signature.
func parseEntry(e entry, origin string) (checkpoint, error) {
	text, _, found := bytes.Cut(e.note(), []byte("\n\n"))
	if !found {
		return checkpoint{}, errCheckpoint
	}
	return parseCheckpointText(string(text)+"\n", origin)
}
