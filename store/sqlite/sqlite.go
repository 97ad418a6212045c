// Package sqlite opens the SQLite file in which one machine keeps its history.
//
//	db, err := sqlite.Open(ctx, "/var/lib/sluicekeep/sluicekeep.db")
//
// The file is in WAL mode with synchronous=FULL: a commit that was answered
// is on the disk. Before a migration of an existing file a copy is made beside
// it, FILE.before-NNNN. Not promised: use over a network file system, which
// WAL cannot do.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	moderncsqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store/migrate"
)

//go:embed migrations/*.sql
var migrations embed.FS

// connections bounds the pool: readers run beside the one writer of WAL.
const connections = 4

// Open opens the file at path, creating it with mode 0600 when it is missing,
// and brings it to the schema of this binary.
func Open(ctx context.Context, path string) (*bun.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the database %s: %w", path, err)
	}
	if err := touch(abs); err != nil {
		return nil, Explain(abs, err)
	}
	db, err := sql.Open("sqlite", dsn(abs))
	if err != nil {
		return nil, Explain(abs, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections) // opening one costs its PRAGMAs again
	if err := prepare(ctx, db, abs); err != nil {
		return nil, errors.Join(Explain(abs, err), db.Close())
	}
	return bun.NewDB(db, sqlitedialect.New()), nil
}

// dsn escapes path, which may hold any byte, and sets the durability that
// the package promises on every connection.
func dsn(path string) string {
	q := url.Values{"_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)",
		"journal_size_limit(67108864)", // a long reader must not leave a huge log behind
	}}
	// Transactions that write later would otherwise begin as readers and fail
	// when another writer was faster.
	q.Set("_txlock", "immediate")
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return strings.Replace(u.String(), "file://", "file:", 1)
}

// touch creates the file and its directory so that nobody else may read them,
// and finds out early whether they can be written at all.
func touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// prepare migrates under a lock on the directory. A lock on the file itself
// would not do: closing it would drop SQLite's own POSIX locks.
func prepare(ctx context.Context, db *sql.DB, path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock the directory of %s: %w", path, err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := check(ctx, db); err != nil {
		return err
	}
	return migrate.Up(ctx, db, migrate.Set{
		Dialect: goose.DialectSQLite3, Files: files, Name: path,
		Before: func(ctx context.Context, next int64) error { return backup(ctx, db, path, next) },
	})
}

// check makes the first connection, which fails here when the file is no
// database, and verifies that the file system can do WAL.
func check(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return sluicekeep.Errorf(sluicekeep.Unsupported, "put the data directory on a local disk",
			"the file system cannot do write-ahead logging (mode %s)", mode)
	}
	return nil
}

// backup copies the database beside itself. The copy appears under its name
// only when it is whole and on the disk.
func backup(ctx context.Context, db *sql.DB, path string, next int64) error {
	final := fmt.Sprintf("%s.before-%04d", path, next)
	part := final + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// VACUUM INTO takes an empty file as it is, so the copy is never readable
	// by others, not even for a moment.
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", part); err != nil {
		return fmt.Errorf("copy the database to %s: %w", final, errors.Join(err, os.Remove(part)))
	}
	if err := errors.Join(f.Sync(), os.Rename(part, final)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes new names in dir durable; syncing a file does not do that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Explain turns an error of SQLite or of the file system into one that says
// what to do; others are returned as they are.
func Explain(path string, err error) error {
	var said *sluicekeep.Error
	if err == nil || errors.As(err, &said) {
		return err
	}
	dir := filepath.Dir(path)
	var e *moderncsqlite.Error
	if !errors.As(err, &e) {
		return explainFile(path, err)
	}
	code := e.Code() & 0xff // the low byte; extended codes say the same in more detail
	if (code == sqlite3.SQLITE_IOERR || code == sqlite3.SQLITE_CANTOPEN) && diskFull(dir) {
		code = sqlite3.SQLITE_FULL // SQLite says so only of the file itself, not of its log
	}
	if e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
		return sluicekeep.Errorf(sluicekeep.Conflict, "choose another name", "there is one of this name already: %w", err)
	}
	switch code {
	case sqlite3.SQLITE_FULL:
		return sluicekeep.Errorf(sluicekeep.Unavailable, "free space on the disk of "+dir,
			"the disk of the database %s is full: %w", path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return sluicekeep.Errorf(sluicekeep.Unavailable, "make "+dir+" writable, or choose another with --data",
			"the database %s cannot be written: %w", path, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return sluicekeep.Errorf(sluicekeep.Unavailable, "end the program that holds it",
			"the database %s is locked by another program: %w", path, err)
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return sluicekeep.Errorf(sluicekeep.Unavailable, "move it away, or restore a copy (FILE.before-NNNN)",
			"%s is damaged, or no database: %w", path, err)
	case sqlite3.SQLITE_IOERR:
		return sluicekeep.Errorf(sluicekeep.Unavailable, "check the disk of "+dir,
			"the disk of the database %s fails: %w", path, err)
	}
	return err
}

// diskFull reports whether no block is left for anybody but root.
func diskFull(dir string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && st.Bavail == 0
}

// explainFile does the same for errors from before SQLite got the file.
func explainFile(path string, err error) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return sluicekeep.Errorf(sluicekeep.Unavailable, "free space on the disk of "+dir,
			"the disk of the database %s is full: %w", path, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return sluicekeep.Errorf(sluicekeep.Unavailable, "make "+dir+" writable, or choose another with --data",
			"the database %s cannot be written: %w", path, err)
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		return sluicekeep.Errorf(sluicekeep.Invalid, "give the path of a file", "%s cannot be a database: %w", path, err)
	}
	return err
}
