package logstore

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"moongate/internal/durable"
)

// A database is kept in a file NAME-N.db, N the highest there is. One that is
// found to be corrupt stays where it is and N+1 is begun: to rename a database
// that somebody has open would have him delete its successor's write-ahead log.
// Of those put aside one is kept.

// family names a database's files.
type family struct {
	dir, name string
	log       Log // any of those in it
}

func (f family) path(n int) string {
	return filepath.Join(f.dir, f.name+"-"+strconv.Itoa(n)+".db")
}

// newest is the number of the current file, 0 if there is none.
func (f family) newest() (int, error) {
	list, err := os.ReadDir(f.dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	newest := 0
	for _, e := range list {
		if n, ok := f.number(e.Name()); ok {
			newest = max(newest, n)
		}
	}
	return newest, nil
}

// number reads the number of a database's file.
func (f family) number(file string) (int, bool) {
	s, ok := strings.CutPrefix(file, f.name+"-")
	if !ok {
		return 0, false
	}
	if s, ok = strings.CutSuffix(s, ".db"); !ok {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0 && strconv.Itoa(n) == s
}

// sweep deletes the files before the last that was put aside.
func (f family) sweep(current int) error {
	list, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if n, ok := f.number(e.Name()); ok && n < current-1 {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if rmErr := os.Remove(f.path(n) + suffix); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
					err = errors.Join(err, rmErr)
				}
			}
		}
	}
	return err
}

// Marks of our files: PRAGMA application_id and user_version. A newer program
// may add columns, which older ones leave alone; a format that they must not
// touch has a higher version.
const (
	applicationID = 0x4d6f6f6e // Moon
	formatVersion = 1
)

const (
	busyTimeout = 5 * time.Second
	pageSize    = 4096
	// maxWAL is what a write-ahead log may keep in its file when it is empty.
	maxWAL = 16 << 20
)

// dataSource is how the driver takes a path and pragmas.
func dataSource(path, mode string, pragmas ...string) string {
	q := url.Values{"mode": {mode}, "_pragma": append([]string{
		"busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")", "trusted_schema(0)",
	}, pragmas...)}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// database is the one connection that writes. It is owned by a writer.
type database struct {
	family
	n      int // of the file
	db     *sql.DB
	fields []field
	insert *sql.Stmt // of one entry
	many   *sql.Stmt // of rowsAtOnce
	next   int64     // number of the next entry
}

// rowsAtOnce is how many entries one statement inserts where there are as many.
const rowsAtOnce = 16

var errForeign = errors.New("it is no log of this program, or of a newer one")

// openDatabase opens a database for writing, and begins it where it is not
// there. sync says whether a commit waits for the disk.
func openDatabase(f family, n int, sync bool, first int64) (*database, error) {
	level := "NORMAL"
	if sync {
		level = "FULL"
	}
	path := f.path(n)
	// The driver would make it readable by others, if the umask lets it.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		// Nobody else in this process has it open: SQLite's locks are safe.
		if err := errors.Join(file.Close(), durable.SyncDir(f.dir)); err != nil {
			return nil, err
		}
	case !errors.Is(err, os.ErrExist):
		return nil, err
	}
	db, err := sql.Open("sqlite", dataSource(path, "rw", "auto_vacuum(INCREMENTAL)", "journal_mode(WAL)",
		"synchronous("+level+")", "journal_size_limit("+strconv.Itoa(maxWAL)+")", "cache_size(-8192)")+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	d := &database{family: f, n: n, db: db, fields: fieldsOf(f.log)}
	if err := d.prepare(first); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return d, nil
}

func (d *database) prepare(first int64) error {
	tx, err := d.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing after Commit
	var id, version, columns int64
	if err := tx.QueryRow("SELECT (SELECT * FROM pragma_application_id), (SELECT * FROM pragma_user_version), (SELECT count(*) FROM pragma_table_info('entry'))").Scan(&id, &version, &columns); err != nil {
		return err
	}
	switch {
	case id == 0 && version == 0 && columns == 0:
		err = d.create(tx, first)
	case id != applicationID || version != formatVersion:
		return errForeign
	default:
		err = d.extend(tx)
	}
	if err != nil {
		return err
	}
	// Also touches both ends of the table and of the index.
	var low, high, early, last sql.NullInt64
	if err := tx.QueryRow("SELECT (SELECT min(seq) FROM entry), (SELECT max(seq) FROM entry), (SELECT min(receive_time) FROM entry), (SELECT seq FROM sqlite_sequence WHERE name = 'entry')").Scan(&low, &high, &early, &last); err != nil {
		return err
	}
	d.next = max(high.Int64, last.Int64) + 1
	if err := tx.Commit(); err != nil {
		return err
	}
	if d.insert, err = d.db.Prepare(d.insertSQL(1)); err != nil {
		return err
	}
	d.many, err = d.db.Prepare(d.insertSQL(rowsAtOnce))
	return err
}

// sqlTypes are the columns' types.
var sqlTypes = map[kind]string{
	text: "TEXT NOT NULL DEFAULT ''", word: "TEXT NOT NULL DEFAULT ''", number: "INTEGER NOT NULL DEFAULT 0",
	instant: "INTEGER NOT NULL DEFAULT 0", severity: "INTEGER NOT NULL DEFAULT 0", address: "BLOB NOT NULL DEFAULT x''",
}

func (d *database) create(tx *sql.Tx, first int64) error {
	// AUTOINCREMENT: a number is not used again, also when its entry is deleted.
	statement := "CREATE TABLE entry (seq INTEGER PRIMARY KEY AUTOINCREMENT"
	for _, f := range d.fields {
		statement += ", " + f.column() + " " + sqlTypes[f.kind]
	}
	statement += ", record BLOB NOT NULL DEFAULT x'')"
	for _, s := range []string{
		"PRAGMA application_id = " + strconv.Itoa(applicationID), "PRAGMA user_version = " + strconv.Itoa(formatVersion),
		statement, "CREATE INDEX entry_time ON entry (receive_time)",
	} {
		if _, err := tx.Exec(s); err != nil {
			return err
		}
	}
	_, err := tx.Exec("INSERT INTO sqlite_sequence (name, seq) VALUES ('entry', ?)", first-1)
	return err
}

// extend adds the columns that an older program did not know.
func (d *database) extend(tx *sql.Tx) error {
	have, err := columnsOf(tx)
	if err != nil {
		return err
	}
	for _, f := range d.fields {
		if have[f.name] {
			continue
		}
		if _, err := tx.Exec("ALTER TABLE entry ADD COLUMN " + f.column() + " " + sqlTypes[f.kind]); err != nil {
			return err
		}
	}
	return nil
}

func columnsOf(tx *sql.Tx) (map[string]bool, error) {
	rows, err := tx.Query("SELECT name FROM pragma_table_info('entry')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	have := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		have[name] = true
	}
	return have, rows.Err()
}

func (d *database) insertSQL(rows int) string {
	names, marks := "seq", "(?"
	for _, f := range d.fields {
		names += ", " + f.column()
		marks += ", ?"
	}
	marks += ", ?)"
	return "INSERT INTO entry (" + names + ", record) VALUES " + strings.Repeat(marks+", ", rows-1) + marks
}

// row is an entry to be written.
type row struct {
	seq    int64
	values []any
	record []byte
}

// write inserts entries in one transaction: all or none.
func (d *database) write(rows []row) error {
	tx, err := d.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing after Commit
	one, many := tx.Stmt(d.insert), tx.Stmt(d.many)
	args := make([]any, 0, rowsAtOnce*(len(d.fields)+2))
	for len(rows) > 0 {
		n, statement := 1, one
		if len(rows) >= rowsAtOnce {
			n, statement = rowsAtOnce, many
		}
		args = args[:0]
		for _, r := range rows[:n] {
			record := r.record
			if record == nil {
				record = []byte{}
			}
			args = append(append(append(args, r.seq), r.values...), record)
		}
		if _, err := statement.Exec(args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return tx.Commit()
}

// deleteStep is how many entries are deleted at once, at most.
const deleteStep = 512

// deleteOldest deletes the oldest entries, at most n and deleteStep, of those
// received before a time; the zero time is any.
func (d *database) deleteOldest(n int, before time.Time) (int64, error) {
	statement := "DELETE FROM entry WHERE seq IN (SELECT seq FROM entry ORDER BY seq LIMIT ?)"
	args := []any{min(n, deleteStep)}
	if !before.IsZero() {
		statement += " AND receive_time < ?"
		args = append(args, micros(before))
	}
	result, err := d.db.Exec(statement, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// size is what the file has in bytes, and how much of it is used.
func (d *database) size() (file, used int64, err error) {
	var pages, free, page int64
	err = d.db.QueryRow("SELECT (SELECT * FROM pragma_page_count), (SELECT * FROM pragma_freelist_count), (SELECT * FROM pragma_page_size)").Scan(&pages, &free, &page)
	return pages * page, (pages - free) * page, err
}

// vacuumStep is how many pages a step gives back to the file system.
const vacuumStep = 256

func (d *database) vacuum() error {
	// A row per page: Exec would stop at the first.
	rows, err := d.db.Query("PRAGMA incremental_vacuum(" + strconv.Itoa(vacuumStep) + ")")
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

// checkpoint empties a write-ahead log that readers kept from being reused.
func (d *database) checkpoint() error {
	info, err := os.Stat(d.path(d.n) + "-wal")
	if err != nil || info.Size() <= 2*maxWAL {
		return nil
	}
	var busy, log, done int
	return d.db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &done)
}

// sound reads the whole database.
func (d *database) sound() error {
	var verdict string
	if err := d.db.QueryRow("PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, verdict)
	}
	return nil
}

var errDamaged = errors.New("the check of the database failed")

func (d *database) close() error { return d.db.Close() }

// isCorrupt says whether an error is one of a file that is no database of
// ours any more.
func isCorrupt(err error) bool {
	return errors.Is(err, errForeign) || errors.Is(err, errDamaged) || code(err) == sqlite3.SQLITE_CORRUPT || code(err) == sqlite3.SQLITE_NOTADB ||
		code(err) == sqlite3.SQLITE_ERROR // the statements are ours: the schema is not
}

// code is SQLite's primary result code, 0 if err is none of its.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}
