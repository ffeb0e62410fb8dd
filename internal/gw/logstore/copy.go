package logstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Copy writes the databases, each as of one moment, into a directory that is
// there and holds none, under the names that a Store finds them by. They may be
// written to meanwhile.
func (r *Reader) Copy(ctx context.Context, dir string) error {
	for _, log := range []Log{Traffic, System, Config} {
		if err := r.family[log].copyTo(ctx, dir); err != nil {
			return fmt.Errorf("copying the %s log: %w", log, err)
		}
	}
	return nil
}

func (f family) copyTo(ctx context.Context, dir string) (err error) {
	n, err := f.newest()
	if err != nil || n == 0 {
		return err
	}
	db, err := sql.Open("sqlite", dataSource(f.path(n), "rw", "cache_size(-8192)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f.dir = dir
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", f.path(1))
	return err
}
