package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"moongate/internal/durable"
)

// maxFile bounds what is read back, in bytes.
const maxFile = 64 << 20

// file is where a table is kept: one document of JSON, replaced as a whole.
type file struct {
	path string
	mu   sync.Mutex // one writer at a time, and the newest state last
}

type kept struct {
	Last int   `json:"last"`
	Jobs []Job `json:"jobs"`
}

// read returns what was kept, nothing where there is no file yet.
func (f *file) read() (kept, error) {
	var k kept
	r, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	} else if err != nil {
		return k, fmt.Errorf("reading the table of jobs: %w", err)
	}
	defer r.Close()
	if err := json.NewDecoder(io.LimitReader(r, maxFile)).Decode(&k); err != nil {
		return k, fmt.Errorf("reading the table of jobs: %s is damaged: %w; remove it, it holds nothing but the past", f.path, err)
	}
	if err := k.check(); err != nil {
		return kept{}, fmt.Errorf("reading the table of jobs: %s: %w; remove it, it holds nothing but the past", f.path, err)
	}
	return k, nil
}

func (k kept) check() error {
	before := 0
	for _, j := range k.Jobs {
		if j.ID <= before {
			return fmt.Errorf("job %d follows job %d", j.ID, before)
		}
		before = j.ID
	}
	return nil
}

func (t *Table) saveUnless(quiet bool) error {
	if quiet {
		return nil
	}
	return t.save()
}

// save writes the table as it is now.
func (t *Table) save() error {
	t.file.mu.Lock()
	defer t.file.mu.Unlock()
	t.mu.Lock()
	k := kept{Last: t.last}
	for _, e := range t.entries {
		if !e.spec.Quiet {
			k.Jobs = append(k.Jobs, e.job.copy())
		}
	}
	t.mu.Unlock()
	raw, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return durable.WriteFile(t.file.path, raw, 0o600)
}
