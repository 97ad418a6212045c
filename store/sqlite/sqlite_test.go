package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store/sqlite"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, kind sluicekeep.Kind, words ...string) {
	t.Helper()
	var said *sluicekeep.Error
	if !errors.As(err, &said) || said.Kind != kind || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got error %q, want one line of kind %s", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("error %q does not say %q", err, w)
		}
	}
}

// edit changes a database as another version of the program would.
func edit(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	must(t, err)
	for _, s := range statements {
		_, err := db.Exec(s)
		must(t, err)
	}
	must(t, db.Close())
}

func TestPragmas(t *testing.T) {
	// A name with every character that a URL gives a meaning to.
	path := filepath.Join(t.TempDir(), "new dir", "a?b#c%41&d=é.db")
	db, err := sqlite.Open(t.Context(), path)
	must(t, err)
	defer db.Close()
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000", "trusted_schema": "0",
	} {
		var got string
		must(t, db.QueryRow("PRAGMA "+pragma).Scan(&got))
		if got != want {
			t.Errorf("%s is %s, want %s", pragma, got, want)
		}
	}
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v", st.Mode())
	}
}

// older makes a database of schema 1 with something in it.
func older(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s.db")
	db, err := sqlite.Open(t.Context(), path)
	must(t, err)
	must(t, db.Close())
	if copies, _ := filepath.Glob(path + ".before-*"); len(copies) != 0 {
		t.Fatalf("a new database made the copies %v", copies)
	}
	edit(t, path, "INSERT INTO vantages VALUES ('v', '{}')",
		"DROP TABLE tokens", "DROP TABLE request_keys", "DELETE FROM schema_version WHERE version_id > 1")
	return path
}

// TestCopyBeforeMigration upgrades an older database: a whole and private
// copy of it stays beside it. A copy that a crash left half done is no harm.
func TestCopyBeforeMigration(t *testing.T) {
	path := older(t)
	must(t, os.WriteFile(path+".before-0002.part", []byte("half a copy"), 0o600))
	db, err := sqlite.Open(t.Context(), path)
	must(t, err)
	defer db.Close()
	_, err = db.Exec("SELECT hash FROM tokens")
	must(t, err)

	files, err := filepath.Glob(path + ".before-*")
	must(t, err)
	if len(files) != 1 || files[0] != path+".before-0002" {
		t.Fatalf("found the copies %v", files)
	}
	st, err := os.Stat(files[0])
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the copy has mode %v", st.Mode())
	}
	edit(t, files[0], "INSERT INTO vantages SELECT 'copied', body FROM vantages WHERE name = 'v'",
		"CREATE TABLE tokens (only_if_missing TEXT)")
}

// TestFailedMigration leaves the database as it was: a migration is one
// transaction.
func TestFailedMigration(t *testing.T) {
	path := older(t)
	edit(t, path, "CREATE TABLE request_keys (in_the_way TEXT)")
	for range 2 {
		_, err := sqlite.Open(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("got %v, want one line on the failed migration of %s", err, path)
		}
	}
	edit(t, path, "SELECT in_the_way FROM request_keys", "CREATE TABLE tokens (only_if_missing TEXT)")
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	db, err := sqlite.Open(t.Context(), path)
	must(t, err)
	must(t, db.Close())
	edit(t, path, "INSERT INTO schema_version (version_id, is_applied) VALUES (99, 1)")
	before, err := os.ReadFile(path)
	must(t, err)
	_, err = sqlite.Open(t.Context(), path)
	wantError(t, err, sluicekeep.Unsupported, path, "schema 99", "newer sluicekeep")
	after, err := os.ReadFile(path)
	must(t, err)
	if string(before) != string(after) {
		t.Fatal("the refused database was changed")
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	must(t, os.WriteFile(text, []byte(strings.Repeat("this is not a database\n", 400)), 0o600))
	_, err := sqlite.Open(t.Context(), text)
	wantError(t, err, sluicekeep.Unavailable, "no database", text)
	_, err = sqlite.Open(t.Context(), dir)
	wantError(t, err, sluicekeep.Invalid, "cannot be a database")
	_, err = sqlite.Open(t.Context(), filepath.Join(text, "s.db"))
	wantError(t, err, sluicekeep.Invalid, "cannot be a database")
}

const mountedEnv = "SLUICEKEEP_SQLITE_MOUNTED"

// inMounts runs play in a process with its own mounts and the directory of a
// tmpfs of size bytes.
func inMounts(t *testing.T, size int, play func(dir string)) {
	t.Helper()
	if dir := os.Getenv(mountedEnv); dir != "" {
		must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
		must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)))
		play(dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), mountedEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("this test needs root and mount namespaces, see `make test`: %v\n%s", err, out)
	}
}

// fill takes every free byte of the disk.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// TestFullDisk fills the disk under an open database: writes are refused with
// one line, what was committed stays, and all works again when there is room.
func TestFullDisk(t *testing.T) {
	inMounts(t, 2<<20, func(dir string) {
		path := filepath.Join(dir, "s.db")
		db, err := sqlite.Open(t.Context(), path)
		must(t, err)
		committed := 0
		for ; committed < 10000; committed++ {
			_, err = db.Exec("INSERT INTO vantages VALUES (?, ?)", fmt.Sprint(committed), strings.Repeat("x", 8000))
			if err != nil {
				break
			}
		}
		wantError(t, sqlite.Explain(path, err), sluicekeep.Unavailable, "full", dir)
		must(t, db.Close())
		fill(t, dir)
		if db, err := sqlite.Open(t.Context(), path); err != nil {
			wantError(t, err, sluicekeep.Unavailable, "full", dir)
		} else {
			must(t, db.Close())
		}
		_, err = sqlite.Open(t.Context(), filepath.Join(dir, "new.db"))
		wantError(t, err, sluicekeep.Unavailable, "full", dir)
		must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=16777216"))
		db, err = sqlite.Open(t.Context(), path)
		must(t, err)
		var n int
		must(t, db.QueryRow("SELECT COUNT(*) FROM vantages").Scan(&n))
		if n != committed {
			t.Fatalf("%d rows, want the %d that were committed", n, committed)
		}
		_, err = db.Exec("INSERT INTO vantages VALUES ('more', '{}')")
		must(t, err)
		must(t, db.Close())
	})
}

func TestReadOnlyDisk(t *testing.T) {
	inMounts(t, 4<<20, func(dir string) {
		path := filepath.Join(dir, "s.db")
		db, err := sqlite.Open(t.Context(), path)
		must(t, err)
		must(t, db.Close())
		must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		for _, p := range []string{path, filepath.Join(dir, "other.db"), filepath.Join(dir, "new", "s.db")} {
			_, err = sqlite.Open(t.Context(), p)
			wantError(t, err, sluicekeep.Unavailable, "cannot be written", "--data")
		}
	})
}
