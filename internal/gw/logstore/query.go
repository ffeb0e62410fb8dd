package logstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Bounds of a query.
const (
	DefaultLimit = 20
	MaxLimit     = 5000
	MaxSkip      = 1 << 31
	// MaxQueryTime bounds how long one reads.
	MaxQueryTime = 30 * time.Second
)

// Query asks for entries of a log.
type Query struct {
	Log    Log
	Filter string // see [Filter]; empty chooses all
	Limit  int    // 0 is DefaultLimit; MaxLimit at most
	Skip   int    // so many of those chosen are left out first
	Oldest bool   // the oldest first, otherwise the newest
	After  int64  // only entries with higher numbers; 0 for all
}

// Reader reads the logs in a directory, which need not be there yet; also those
// that another process writes. It is safe for concurrent use.
type Reader struct {
	found func(Log) // a database is corrupt; nil if nobody can mend it

	mu     sync.Mutex
	closed bool
	open   map[string]*handle // by family name; guarded by mu
	family map[Log]family
}

// handle is an open file.
type handle struct {
	n    int
	info os.FileInfo
	db   *sql.DB
}

// OpenReader returns a Reader for the console.
func OpenReader(dir string) *Reader { return newReader(dir, nil) }

func newReader(dir string, found func(Log)) *Reader {
	traffic := family{dir: dir, name: "traffic", log: Traffic}
	return &Reader{found: found, open: map[string]*handle{}, family: map[Log]family{
		Traffic: traffic, Decryption: traffic,
		System: {dir: dir, name: "system", log: System}, Config: {dir: dir, name: "config", log: Config},
	}}
}

// Close closes the databases. Queries under way fail.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	var errs []error
	for name, h := range r.open {
		errs = append(errs, h.db.Close())
		delete(r.open, name)
	}
	return errors.Join(errs...)
}

// Query returns the entries that are asked for. A mistake in the filter is a
// *FilterError.
func (r *Reader) Query(ctx context.Context, q Query) ([]Entry, error) {
	if _, known := r.family[q.Log]; !known {
		_, err := ParseLog(string(q.Log))
		return nil, err
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Limit < 0 || q.Limit > MaxLimit {
		return nil, fmt.Errorf("limit %d: expected 1 to %d", q.Limit, MaxLimit)
	}
	if q.Skip < 0 || q.Skip > MaxSkip {
		return nil, fmt.Errorf("skip %d: expected 0 to %d", q.Skip, MaxSkip)
	}
	filter, err := ParseFilter(q.Log, q.Filter)
	if err != nil {
		return nil, err
	}
	return r.read(ctx, &q, filter)
}

func (r *Reader) read(ctx context.Context, q *Query, filter *Filter) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, MaxQueryTime)
	defer cancel()
	db, err := r.database(q.Log)
	if err != nil {
		return nil, fmt.Errorf("opening the %s log: %w", q.Log, err)
	}
	if db == nil {
		return nil, nil
	}
	statement, args := q.sql(filter, time.Now())
	list, err := entries(ctx, db, q.Log, statement, args)
	switch code(err) {
	case 0:
	case sqlite3.SQLITE_ERROR:
		if strings.Contains(err.Error(), "no such table") {
			return nil, nil // it is being made
		}
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		if r.found != nil {
			r.found(q.Log)
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("reading the %s log: %w", q.Log, err)
	}
	return list, nil
}

// database is the current one; nil if there is none.
func (r *Reader) database(log Log) (*sql.DB, error) {
	f := r.family[log]
	n, err := f.newest()
	if err != nil || n == 0 {
		return nil, err
	}
	info, err := os.Stat(f.path(n))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	if h := r.open[f.name]; h != nil {
		if h.n == n && os.SameFile(h.info, info) {
			return h.db, nil
		}
		delete(r.open, f.name)
		go h.db.Close() // waits for queries under way, which are bounded
	}
	db, err := sql.Open("sqlite", dataSource(f.path(n), "rw", "query_only(1)", "cache_size(-8192)"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetConnMaxIdleTime(time.Minute)
	r.open[f.name] = &handle{n, info, db}
	return db, nil
}

// sql is the statement of a query and its arguments.
func (q *Query) sql(filter *Filter, now time.Time) (string, []any) {
	fields := fieldsOf(q.Log)
	var b strings.Builder
	b.WriteString("SELECT seq, record")
	if q.Log != Traffic && q.Log != Decryption {
		b.Reset()
		b.WriteString("SELECT seq, NULL")
	}
	for _, f := range fields {
		b.WriteString(", " + f.column())
	}
	b.WriteString(" FROM entry WHERE seq > ?")
	args := []any{q.After}
	if q.Log == Decryption {
		b.WriteString(" AND tls = 'yes'")
	}
	order := "seq"
	if filter.root != nil {
		b.WriteString(" AND ")
		args = filter.root.sql(&b, args, fields, now)
		// By the index on time where the filter bounds it; otherwise through
		// the table, which has about the same order and needs no look-ups.
		if filter.root.bounded() && q.After == 0 {
			order = "receive_time"
		}
	}
	direction := " DESC"
	if q.Oldest {
		direction = ""
	}
	b.WriteString(" ORDER BY " + order + direction)
	if order != "seq" {
		b.WriteString(", seq" + direction)
	}
	b.WriteString(" LIMIT ? OFFSET ?")
	return b.String(), append(args, q.Limit, q.Skip)
}

func entries(ctx context.Context, db *sql.DB, log Log, statement string, args []any) ([]Entry, error) {
	rows, err := db.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	fields := fieldsOf(log)
	values := make([]any, len(fields))
	var seq int64
	var record []byte
	into := []any{&seq, &record}
	for i := range values {
		into = append(into, &values[i])
	}
	var list []Entry
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		list = append(list, show(log, seq, values, record))
		record = nil
	}
	return list, rows.Err()
}

// pollEvery is how often Follow looks for more.
const pollEvery = 100 * time.Millisecond

// Follow calls each for the entries that Query finds, but those in the order of
// their numbers, and then for those that come, until ctx ends or each fails: it
// returns that error, or ctx's. From a Query for the oldest it goes on with all
// behind those found. Once it has begun, queries may fail for MaxQueryTime.
func (r *Reader) Follow(ctx context.Context, q Query, each func(Entry) error) error {
	after, err := r.last(ctx, q.Log) // before the query, such that nothing is between
	if err != nil {
		return err
	}
	list, err := r.Query(ctx, q)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	if n := len(list); n > 0 && (q.Oldest || list[n-1].Seq > after) {
		after = list[n-1].Seq
	}
	q = Query{Log: q.Log, Filter: q.Filter, Limit: MaxLimit, Oldest: true, After: max(after, q.After)}
	failing := time.Time{}
	for {
		for _, e := range list {
			if err := each(e); err != nil {
				return err
			}
			q.After = max(q.After, e.Seq)
		}
		if len(list) < MaxLimit {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pollEvery):
			}
		}
		list, err = r.Query(ctx, q)
		switch {
		case err == nil:
			failing = time.Time{}
		case ctx.Err() != nil:
			return ctx.Err()
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > MaxQueryTime:
			return err
		}
	}
}

// last is the number of the newest entry.
func (r *Reader) last(ctx context.Context, log Log) (int64, error) {
	list, err := r.Query(ctx, Query{Log: log, Limit: 1})
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].Seq, nil
}
