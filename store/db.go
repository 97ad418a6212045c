package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store/postgres"
	"github.com/sluicekeep/sluicekeep/store/sqlite"
)

// DB is the one implementation of every interface of this package. It is safe
// for concurrent use.
type DB struct {
	bun     *bun.DB
	explain func(error) error
	// writing lets one writer of this process in at a time on SQLite, where
	// waiting for each other inside SQLite is polling; nil on PostgreSQL.
	writing chan struct{}

	mu      sync.Mutex
	present map[string]*present // by asset; see SaveProfiles
}

// Open opens a database and brings it to the schema of this binary: dsn is the
// path of an SQLite file, or a postgres:// URL.
func Open(ctx context.Context, dsn string) (*DB, error) {
	s := &DB{present: map[string]*present{}}
	var err error
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		s.explain = explainPostgres(dsn)
		s.bun, err = postgres.Open(ctx, dsn)
	} else {
		s.explain = func(err error) error { return sqlite.Explain(dsn, err) }
		s.writing = make(chan struct{}, 1)
		s.bun, err = sqlite.Open(ctx, dsn)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// explainPostgres never puts the URL itself, which may hold a password, into
// an error.
func explainPostgres(dsn string) func(error) error {
	name := "PostgreSQL"
	if cfg, err := pgx.ParseConfig(dsn); err == nil {
		name = postgres.Name(cfg)
	}
	return func(err error) error { return postgres.Explain(name, err) }
}

// Close closes the database; whatever was answered is already safe.
func (s *DB) Close() error { return s.bun.Close() }

// Schema returns the number of the last migration of the open database.
func (s *DB) Schema(ctx context.Context) (int64, error) {
	var n int64
	err := s.bun.NewSelect().Table("schema_version").ColumnExpr("MAX(version_id)").Scan(ctx, &n)
	return n, s.failed("read the schema version", err)
}

// write runs f in one transaction. Work names what failed, in an error.
func (s *DB) write(ctx context.Context, work string, f func(ctx context.Context, tx bun.Tx) error) error {
	if s.writing != nil {
		select {
		case s.writing <- struct{}{}:
			defer func() { <-s.writing }()
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", work, ctx.Err())
		}
	}
	return s.failed(work, s.bun.RunInTx(ctx, nil, f))
}

// failed explains err once: what a person reads stays as it is, the rest gets
// the name of the work in front.
func (s *DB) failed(work string, err error) error {
	if err == nil {
		return nil
	}
	var said *sluicekeep.Error
	if err = s.explain(err); errors.As(err, &said) {
		return err
	}
	return fmt.Errorf("%s: %w", work, err)
}

// next raises a counter and returns its new value. The row stays locked until
// the transaction ends, so numbers become visible in their order.
func next(ctx context.Context, tx bun.Tx, name string) (int64, error) {
	row := number{Name: name, Value: 1}
	_, err := tx.NewInsert().Model(&row).On("CONFLICT (name) DO UPDATE").
		Set("value = number.value + 1").Returning("value").Exec(ctx)
	return row.Value, err
}

// number is a counter.
type number struct {
	bun.BaseModel `bun:"table:numbers,alias:number"`
	Name          string `bun:",pk"`
	Value         int64
}

// stamp is a time in the database: nanoseconds since 1970 UTC. Zero is the
// zero time.
type stamp int64

// forever ends what has not ended.
const forever stamp = math.MaxInt64

// stampOf keeps hostile times in range: before 1970 counts as 1970, and after
// 2262 as the end of 2261, which is still not for ever.
func stampOf(t time.Time) stamp {
	switch {
	case t.IsZero():
		return 0
	case t.Year() < 1970:
		return 1
	case t.Year() > 2261:
		return forever - 1
	}
	return stamp(t.UnixNano())
}

// time is the reverse of stampOf, in UTC.
func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(s)).UTC()
}

// maxName bounds the names that people and hosts give to things.
const maxName = 255

// checkName refuses what could not be stored, shown or typed again.
func checkName(what, name string) error {
	bad := !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	})
	switch {
	case name == "":
		return sluicekeep.Errorf(sluicekeep.Invalid, "give it a name", "the %s has no name", what)
	case len(name) > maxName:
		return sluicekeep.Errorf(sluicekeep.Invalid, "shorten it",
			"the name of the %s has %d bytes, more than %d", what, len(name), maxName)
	case bad:
		return sluicekeep.Errorf(sluicekeep.Invalid, "use printable characters",
			"the name %q of the %s has control characters", name, what)
	}
	return nil
}

// plain is s without what a text column cannot hold: NUL and broken UTF-8.
// Bodies need no such care, since JSON escapes.
func plain(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\ufffd")
}

// encode writes a body. Times keep their nanoseconds.
func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// decode reads a body that encode wrote; what names the row in an error.
func decode(body string, v any, what string) error {
	if err := json.Unmarshal([]byte(body), v); err != nil {
		return fmt.Errorf("read the stored %s: %w", what, err)
	}
	return nil
}

// missing turns "no rows" into NotFound with a next step.
func missing(err error, next, format string, args ...any) error {
	if errors.Is(err, sql.ErrNoRows) {
		return sluicekeep.Errorf(sluicekeep.NotFound, next, format, args...)
	}
	return err
}

// chunked calls f with at most size rows at a time, so that a statement stays
// small however many rows there are.
func chunked[T any](rows []T, size int, f func([]T) error) error {
	for len(rows) > 0 {
		n := min(size, len(rows))
		if err := f(rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}
