package journal_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store/journal"
)

// roleEnv makes the test binary play a part in another process.
const roleEnv = "SLUICEKEEP_JOURNAL_ROLE"

// role starts this test again as another process with its own mounts.
func role(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), roleEnv+"="+name, "SLUICEKEEP_JOURNAL_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func playing(name string) (dir string, ok bool) {
	return os.Getenv("SLUICEKEEP_JOURNAL_DIR"), os.Getenv(roleEnv) == name
}

// TestKill kills a writer at random moments, over and over: every record that
// it was told is durable is there, in order, and nothing is half there.
func TestKill(t *testing.T) {
	if dir, ok := playing("writer"); ok {
		writeForever(t, dir)
	}
	dir := t.TempDir()
	acked := 0
	for round := range 15 {
		cmd := role(t, "writer", dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		stop := 1 + rand.IntN(60)
		lines := bufio.NewScanner(out)
		for n := 0; n < stop && lines.Scan(); {
			if s, ok := strings.CutPrefix(lines.Text(), "ack "); ok {
				acked, err = strconv.Atoi(s)
				must(t, err)
				n++
			}
		}
		must(t, cmd.Process.Kill())
		for lines.Scan() { // what it still managed to say before it died
			if s, ok := strings.CutPrefix(lines.Text(), "ack "); ok {
				if n, err := strconv.Atoi(s); err == nil {
					acked = max(acked, n)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		j, records := open(t, dir)
		must(t, j.Close())
		if len(records) < acked {
			t.Fatalf("round %d: %d records, but %d were acknowledged", round, len(records), acked)
		}
		wantNotes(t, records, len(records))
	}
	t.Logf("%d records, %d acknowledged, all there", acked, acked)
}

// writeForever appends notes and says so until it is killed.
func writeForever(t *testing.T, dir string) {
	j, records := open(t, dir)
	for n := len(records); ; n++ {
		must(t, j.Append(context.Background(), note(n)))
		fmt.Println("ack", n+1)
	}
}

// TestKillWhileCompacting kills a writer that compacts all the time down to
// its last notes: the last acknowledged note is there, whichever file is.
func TestKillWhileCompacting(t *testing.T) {
	if dir, ok := playing("compacter"); ok {
		compactForever(t, dir)
	}
	dir := t.TempDir()
	for range 10 {
		cmd := role(t, "compacter", dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		acked := ""
		stop := 1 + rand.IntN(40)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if id, ok := strings.CutPrefix(lines.Text(), "ack "); ok {
				acked = id
				if stop--; stop == 0 {
					must(t, cmd.Process.Kill())
				}
			}
		}
		_ = cmd.Wait() // it was killed
		j, records := open(t, dir)
		must(t, j.Close())
		if !slices.ContainsFunc(records, func(r journal.Record) bool { return r.Change == acked }) {
			t.Fatalf("note %s was acknowledged and is not among %d records", acked, len(records))
		}
	}
}

func compactForever(t *testing.T, dir string) {
	j, records := open(t, dir)
	start := 0
	if len(records) > 0 {
		_, err := fmt.Sscanf(records[len(records)-1].Change, "c-%d", &start)
		must(t, err)
	}
	for n := start + 1; ; n++ {
		must(t, j.Append(context.Background(), note(n)))
		fmt.Println("ack " + note(n).Change)
		if n%3 == 0 {
			must(t, j.Compact(context.Background(), note(n-1), note(n)))
		}
	}
}

// inMounts runs play in a process with its own mounts and the directory of a
// tmpfs of size bytes.
func inMounts(t *testing.T, size int, play func(t *testing.T, dir string)) {
	t.Helper()
	if dir, ok := playing("mounted"); ok {
		must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
		must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)))
		play(t, dir)
		return
	}
	cmd := role(t, "mounted", t.TempDir())
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Fatalf("this test needs root and mount namespaces: run `make test` (%v)", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// fill takes every free byte of the disk.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	defer f.Close()
	for block := 64 << 10; block > 0; block /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, block))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// undo makes the largest undo record that an allowance must hold.
func undo(change string, end bool) journal.Record {
	data, _ := json.Marshal(strings.Repeat("u", journal.Allowance/2-300))
	return journal.Record{Kind: "undone", Change: change, End: end, Data: data}
}

// TestFullDisk takes intents until the disk refuses one: that one left no
// trace, and every intent that was accepted can be undone, also after a
// restart, with not one byte free.
func TestFullDisk(t *testing.T) {
	inMounts(t, 1<<20, func(t *testing.T, dir string) {
		j, _ := open(t, dir)
		ctx := t.Context()
		must(t, j.Append(ctx, journal.Record{Kind: "intent", Change: "c-0", Intent: true}))
		fill(t, dir)
		accepted := 1
		var err error
		for ; accepted < 1000; accepted++ {
			err = j.Append(ctx, journal.Record{Kind: "intent", Change: fmt.Sprint("c-", accepted), Intent: true})
			if err != nil {
				break
			}
		}
		wantError(t, err, sluicekeep.Unavailable, "full", dir)
		wantError(t, j.Reserve(ctx, 1<<20), sluicekeep.Unavailable, "full")
		wantError(t, j.Compact(ctx), sluicekeep.Unavailable, "full")
		must(t, j.AppendReserved(ctx, undo("c-0", false)))
		must(t, j.Close())

		j, records := open(t, dir)
		if len(records) != accepted+1 {
			t.Fatalf("%d records for %d intents and an undo", len(records), accepted)
		}
		err = j.Append(ctx, journal.Record{Kind: "intent", Change: "c-x", Intent: true})
		wantError(t, err, sluicekeep.Unavailable, "full")
		small := 0 // what is too little for an intent may be used by others
		for err = nil; err == nil; small++ {
			err = j.Append(ctx, journal.Record{Kind: "note"})
		}
		wantError(t, err, sluicekeep.Unavailable, "full")
		wantError(t, j.AppendReserved(ctx, undo("c-x", true)), sluicekeep.Unavailable, "full") // paid by nobody
		must(t, j.AppendReserved(ctx, undo("c-0", true)))
		for n := 1; n < accepted; n++ {
			must(t, j.AppendReserved(ctx, undo(fmt.Sprint("c-", n), false)))
			must(t, j.AppendReserved(ctx, undo(fmt.Sprint("c-", n), true)))
		}
		must(t, j.Close())
		j, records = open(t, dir)
		if want := accepted*3 + small - 1; len(records) != want {
			t.Fatalf("%d records, want %d", len(records), want)
		}
		must(t, os.Remove(filepath.Join(dir, "filler")))
		must(t, j.Append(ctx, journal.Record{Kind: "intent", Change: "c-y", Intent: true}))
		must(t, j.Close())
	})
}

// TestTornOnFullDisk opens a torn journal when not even its copy has room.
func TestTornOnFullDisk(t *testing.T) {
	inMounts(t, 1<<20, func(t *testing.T, dir string) {
		torn := append([]byte(frame(1, 1)), frame(2, 2)[:60]...)
		must(t, os.WriteFile(filepath.Join(dir, "journal"), torn, 0o600))
		fill(t, dir)
		j, records := open(t, dir)
		wantNotes(t, records, 1)
		must(t, j.Close())
	})
}

func TestReadOnlyDisk(t *testing.T) {
	inMounts(t, 1<<20, func(t *testing.T, dir string) {
		write(t, dir, 3)
		must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		_, _, err := journal.Open(dir)
		wantError(t, err, sluicekeep.Unavailable, "read-only", dir)
		must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""))
		j, records := open(t, dir)
		wantNotes(t, records, 3)
		must(t, j.Close())
	})
}

// TestLockEndsWithItsProcess kills the holder: the next opener gets in.
func TestLockEndsWithItsProcess(t *testing.T) {
	if dir, ok := playing("holder"); ok {
		_, _ = open(t, dir)
		fmt.Println("held")
		time.Sleep(time.Hour)
	}
	dir := t.TempDir()
	cmd := role(t, "holder", dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "held" {
	}
	_, _, err = journal.Open(dir)
	wantError(t, err, sluicekeep.Conflict, "another sluicekeep up")
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	j, _ := open(t, dir)
	must(t, j.Close())
}
