// Package migrate brings a database to the schema of this binary, and refuses
// a database that is ahead of it.
//
//	err := migrate.Up(ctx, db, migrate.Set{Dialect: goose.DialectSQLite3, Files: files, Name: path})
//
// Each numbered file runs in one transaction. There is no way down: restore
// the copy that was made before (package sqlite), or a dump.
package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/sluicekeep/sluicekeep"
)

// Set says what to bring a database to.
type Set struct {
	Dialect goose.Dialect
	Files   fs.FS              // numbered .sql files, in its root
	Name    string             // names the database in errors; no password
	Locker  lock.SessionLocker // nil: the caller sees to it that one process migrates
	// Before runs when an existing schema is about to change, with the number
	// of the first migration that will run.
	Before func(ctx context.Context, next int64) error
}

// Up applies what is missing. A database of a newer schema is Unsupported and
// is left as it is.
func Up(ctx context.Context, db *sql.DB, set Set) error {
	p, err := provider(db, set)
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("read the schema version of %s: %w", set.Name, err)
	case have > want:
		return sluicekeep.Errorf(sluicekeep.Unsupported,
			"run the newer sluicekeep, or restore the copy that was made before the upgrade",
			"the database %s has schema %d, this sluicekeep knows up to %d", set.Name, have, want)
	case have == want:
		return nil
	case have > 0 && set.Before != nil:
		if err := set.Before(ctx, have+1); err != nil {
			return err
		}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring %s from schema %d to %d: %w", set.Name, have, want, cause(err))
	}
	return nil
}

// provider reads the files. The global registry stays out of it: importing
// another package must never add a migration.
func provider(db *sql.DB, set Set) (*goose.Provider, error) {
	opts := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithTableName("schema_version")}
	if set.Locker != nil {
		opts = append(opts, goose.WithSessionLocker(set.Locker))
	}
	p, err := goose.NewProvider(set.Dialect, db, set.Files, opts...)
	if err != nil {
		return nil, fmt.Errorf("read the migrations for %s: %w", set.Name, err)
	}
	return p, nil
}

// cause drops the list of migrations that did succeed: one line is read, and
// the failing statement is what matters.
func cause(err error) error {
	var partial *goose.PartialError
	if errors.As(err, &partial) && partial.Err != nil {
		return partial.Err
	}
	return err
}
