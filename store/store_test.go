package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store"
	"github.com/sluicekeep/sluicekeep/store/storetest"
)

// DB is everything a consumer may ask for.
var _ interface {
	store.Ports
	store.Clients
	store.Changes
	store.Desired
	store.Vantages
	store.Probes
	store.Grants
	store.Events
	store.Tokens
	store.Keys
	store.Pruner
} = (*store.DB)(nil)

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "sluicekeep.db") })
}

func TestPostgreSQL(t *testing.T) { storetest.Run(t, postgresPlace) }

// postgresPlace makes an empty database in the cluster that the tests got.
func postgresPlace(t *testing.T) string {
	t.Helper()
	dsn := os.Getenv("SLUICEKEEP_TEST_POSTGRES")
	if dsn == "" {
		t.Fatal("SLUICEKEEP_TEST_POSTGRES is not set: run `make test`, which starts a private PostgreSQL, " +
			"or give the postgres:// URL of a cluster in which databases may be created")
	}
	name := fmt.Sprintf("sk_%d_%d", os.Getpid(), time.Now().UnixNano())
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), dsn)
		if err == nil {
			_, err = conn.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
			conn.Close(context.Background())
		}
		if err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	cfg := conn.Config()
	return fmt.Sprintf("postgres:///%s?host=%s&port=%d&user=%s&password=%s", name, cfg.Host, cfg.Port, cfg.User, cfg.Password)
}

func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	db, err := store.Open(ctx, filepath.Join(dir, "sluicekeep.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	redis := sluicekeep.Profile{
		Asset: "web-01", Address: netip.MustParseAddr("0.0.0.0"), Declared: sluicekeep.DeclaredOpen,
		Port: sluicekeep.Port{Transport: sluicekeep.TCP, Number: 6379},
	}
	db.SaveProfiles(ctx, day, []sluicekeep.Profile{redis})
	redis.Declared = sluicekeep.DeclaredClosed
	db.SaveProfiles(ctx, day.Add(time.Hour), []sluicekeep.Profile{redis})

	for _, asOf := range []time.Time{day.Add(time.Minute), {}} {
		ports, _ := db.Profiles(ctx, asOf)
		fmt.Println(ports[0].Endpoint(), ports[0].Declared)
	}
	// Output:
	// web-01 0.0.0.0:6379/tcp open
	// web-01 0.0.0.0:6379/tcp closed
}

func TestPostgreSQLOfANewerSchemaIsRefused(t *testing.T) {
	dsn := postgresPlace(t)
	db, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := db.Schema(t.Context()); err != nil || n < 2 {
		t.Fatalf("schema %d, error %v", n, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "INSERT INTO schema_version (version_id, is_applied) VALUES (99, true)"); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), dsn)
	if err == nil || !strings.Contains(err.Error(), "schema 99") {
		t.Fatalf("got %v, want a refusal of schema 99", err)
	}
}

// TestPostgreSQLCutsUsOff ends all connections in the middle: errors say that
// the database is away, and the store recovers by itself.
func TestPostgreSQLCutsUsOff(t *testing.T) {
	dsn := postgresPlace(t)
	db := storetest.Open(t, dsn)
	conn, err := pgx.Connect(t.Context(), os.Getenv("SLUICEKEEP_TEST_POSTGRES"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for range 20 {
		_, err := conn.Exec(t.Context(),
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
			strings.TrimPrefix(strings.Split(dsn, "?")[0], "postgres:///"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.NextChangeID(t.Context())
		var said *sluicekeep.Error
		if err != nil && (!errors.As(err, &said) || said.Kind != sluicekeep.Unavailable) {
			t.Fatalf("got %v, want an unavailable database", err)
		}
	}
	if _, err := db.NextChangeID(t.Context()); err != nil {
		if _, err = db.NextChangeID(t.Context()); err != nil {
			t.Fatalf("the store does not recover: %v", err)
		}
	}
}

func TestPostgreSQLSaysWhatToDo(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://nobody:hunter2@127.0.0.1:1/x": "start PostgreSQL",
		"postgres://u:hunter2@h:badport/x":        "write it like postgres://",
	} {
		_, err := store.Open(t.Context(), dsn)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("an error of two lines or with a password: %v", err)
		}
	}
}
