// Package postgres opens the PostgreSQL database that several controllers
// share.
//
//	db, err := postgres.Open(ctx, "postgres://sluicekeep@db.example.org/sluicekeep?sslmode=verify-full")
//
// Not promised: copies before a migration (use pg_dump), and creating the
// database or its role.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store/migrate"
)

//go:embed migrations/*.sql
var migrations embed.FS

// connections bounds the pool of one controller.
const connections = 8

// Open connects to dsn (a postgres:// URL) and brings the database to the
// schema of this binary; controllers that start at once take turns.
func Open(ctx context.Context, dsn string) (*bun.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The error of pgx hides passwords, but quotes the rest of the URL.
		return nil, sluicekeep.Errorf(sluicekeep.Invalid, "write it like postgres://user@host/database",
			"the database URL is wrong: %w", err)
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	if err := prepare(ctx, db, Name(cfg)); err != nil {
		return nil, errors.Join(Explain(Name(cfg), err), db.Close())
	}
	return bun.NewDB(db, pgdialect.New()), nil
}

// Name names the database without its password.
func Name(cfg *pgx.ConnConfig) string { return fmt.Sprintf("%s at %s", cfg.Database, cfg.Host) }

// prepare connects for the first time and migrates.
func prepare(ctx context.Context, db *sql.DB, name string) error {
	if err := db.PingContext(ctx); err != nil {
		return err
	}
	// An advisory lock: the second controller waits for the first.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return migrate.Up(ctx, db, migrate.Set{
		Dialect: goose.DialectPostgres, Files: files, Name: name, Locker: locker,
	})
}

// Explain turns an error of PostgreSQL into one that says what to do; others
// are returned as they are. The classes are those of appendix A of its manual.
func Explain(name string, err error) error {
	var said *sluicekeep.Error
	if err == nil || errors.As(err, &said) {
		return err
	}
	var refused *pgconn.ConnectError
	var e *pgconn.PgError
	switch {
	case errors.As(err, &e):
		return explainCode(name, e, err)
	case errors.As(err, &refused):
		// One line for each address that was tried becomes one line in all.
		tried := strings.ReplaceAll(refused.Unwrap().Error(), "\n", "")
		said = sluicekeep.Errorf(sluicekeep.Unavailable, "start PostgreSQL, or correct the database URL",
			"no connection to the database %s: %s", name, strings.ReplaceAll(tried, "\t", ", "))
		said.Err = err
		return said
	}
	if lost(err) {
		return sluicekeep.Errorf(sluicekeep.Unavailable, "look whether PostgreSQL still runs, then try again",
			"the connection to the database %s was lost: %w", name, err)
	}
	return err
}

// lost reports whether a connection broke in the middle of its work. Whether
// a commit that was under way then took effect is not known.
func lost(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) ||
		errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// explainCode reads the SQLSTATE, which is stable across versions and
// languages while messages are not.
func explainCode(name string, e *pgconn.PgError, err error) error {
	switch {
	case e.Code == "53100":
		return sluicekeep.Errorf(sluicekeep.Unavailable, "free space on the disk of PostgreSQL",
			"the disk of the database %s is full: %w", name, err)
	case strings.HasPrefix(e.Code, "28"), e.Code == "42501":
		return sluicekeep.Errorf(sluicekeep.Unavailable, "check the user, its password and its rights in PostgreSQL",
			"the database %s does not let us in: %w", name, err)
	case e.Code == "3D000":
		return sluicekeep.Errorf(sluicekeep.Unavailable, "create it with createdb",
			"the database %s does not exist: %w", name, err)
	case e.Code == "23505":
		return sluicekeep.Errorf(sluicekeep.Conflict, "choose another name", "there is one of this name already: %w", err)
	case strings.HasPrefix(e.Code, "40"):
		return sluicekeep.Errorf(sluicekeep.Conflict, "try again", "another server wrote at the same moment: %w", err)
	case e.Code == "25006":
		return sluicekeep.Errorf(sluicekeep.Unavailable, "connect to the primary",
			"the database %s is read-only: %w", name, err)
	case strings.HasPrefix(e.Code, "53"), strings.HasPrefix(e.Code, "57"), strings.HasPrefix(e.Code, "58"):
		return sluicekeep.Errorf(sluicekeep.Unavailable, "look into the log of PostgreSQL",
			"the database %s cannot answer now: %w", name, err)
	}
	return err
}
