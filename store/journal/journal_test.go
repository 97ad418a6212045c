package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store/journal"
)

func open(t testing.TB, dir string) (*journal.Journal, []journal.Record) {
	t.Helper()
	j, records, err := journal.Open(dir)
	must(t, err)
	return j, records
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks kind and words of an error, and that it is one line.
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

// note makes the record with number n, which says so.
func note(n int) journal.Record {
	data := fmt.Appendf(nil, `{"n":%d,"pad":"<%s>\\u2028"}`, n, strings.Repeat("é", n%50))
	return journal.Record{
		At: time.Date(2026, 3, 1, 0, 0, n, 0, time.UTC), Kind: "note", Change: fmt.Sprint("c-", n), Data: data,
	}
}

// write makes a journal of n notes and returns the bytes of its file.
func write(t testing.TB, dir string, n int) []byte {
	t.Helper()
	j, _ := open(t, dir)
	for i := range n {
		must(t, j.Append(t.Context(), note(i)))
	}
	must(t, j.Close())
	b, err := os.ReadFile(filepath.Join(dir, "journal"))
	must(t, err)
	return b
}

// wantNotes checks that records are the notes 0 … n-1.
func wantNotes(t testing.TB, records []journal.Record, n int) {
	t.Helper()
	want := make([]journal.Record, n)
	for i := range want {
		want[i] = note(i)
		want[i].Seq = uint64(i + 1)
	}
	if diff := cmp.Diff(want, append([]journal.Record{}, records...)); diff != "" {
		t.Fatalf("records (-want +got):\n%s", diff)
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	j, _, err := journal.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	err = j.Append(ctx, journal.Record{Kind: "intent", Change: "c-1", Intent: true})
	fmt.Println("durable, so the rule may follow:", err == nil)
	j.Close()

	j, records, err := journal.Open(dir) // after a crash
	if err != nil {
		log.Fatal(err)
	}
	defer j.Close()
	fmt.Println(records[0].Seq, records[0].Kind, records[0].Change)
	err = j.AppendReserved(ctx, journal.Record{Kind: "undone", Change: "c-1", End: true})
	fmt.Println("undo:", err == nil)
	// Output:
	// durable, so the rule may follow: true
	// 1 intent c-1
	// undo: true
}

func TestReplayReturnsWhatWasAppended(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 20)
	j, records := open(t, dir)
	wantNotes(t, records, 20)
	must(t, j.Append(t.Context(), note(20)))
	must(t, j.Close())
	j, records = open(t, dir)
	wantNotes(t, records, 21)
	must(t, j.Close())
	wantError(t, j.Append(t.Context(), note(1)), sluicekeep.Unavailable, "closed")
}

// TestTornTailAtEveryByte cuts the file at every byte, once by truncation and
// once with the zeros of allocated blocks in place of what was lost.
func TestTornTailAtEveryByte(t *testing.T) {
	b := write(t, t.TempDir(), 4)
	size := len(bytes.TrimRight(b, "\x00"))
	for cut := range size + 1 {
		for _, tail := range [][]byte{nil, make([]byte, 1000)} {
			whole := bytes.Count(b[:cut], []byte("\n"))
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "journal"), append(bytes.Clone(b[:cut]), tail...), 0o600))
			j, records := open(t, dir)
			wantNotes(t, records, whole)
			wantTornCopy(t, dir, whole+1, b[bytes.LastIndexByte(b[:cut], '\n')+1:cut])
			for i := whole; i < 6; i++ {
				must(t, j.Append(t.Context(), note(i)))
			}
			must(t, j.Close())
			j, records = open(t, dir)
			wantNotes(t, records, 6)
			must(t, j.Close())
		}
	}
}

func wantTornCopy(t *testing.T, dir string, seq int, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("journal.torn-", seq)))
	if len(want) == 0 && errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the torn tail %q was kept as %q, error %v", want, got, err)
	}
}

// TestDamage flips bytes of acknowledged records: the journal says where, or,
// for the last record, falls back to the one before. It never invents.
func TestDamage(t *testing.T) {
	b := bytes.TrimRight(write(t, t.TempDir(), 5), "\x00")
	last := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.IntRange(0, len(b)-1).Draw(rt, "at")
		bad := bytes.Clone(b)
		bad[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "flip"))
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "journal"), bad, 0o600))
		j, records, err := journal.Open(dir)
		if at < last {
			start := bytes.LastIndexByte(b[:at], '\n') + 1
			wantError(t, err, sluicekeep.Unavailable, filepath.Join(dir, "journal"), fmt.Sprintf("at byte %d", start))
			return
		}
		must(t, err)
		wantNotes(t, records, 4)
		must(t, j.Close())
	})
}

// frame writes a frame as frame.go describes it.
func frame(seq, base int) string {
	rec := note(seq - 1)
	rec.Seq = uint64(seq)
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(rec)
	body := bytes.TrimSpace(line.Bytes())
	sum := crc32.Checksum(fmt.Appendf(nil, "%016x%s", base, body), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Sprintf("J1 %08x %08x %016x %s\n", len(body), sum, base, body)
}

// TestTornBatch loses the first page of a batch of which a later page reached
// the disk: nobody was told that the batch is safe, so this is a torn tail.
func TestTornBatch(t *testing.T) {
	lost := strings.Repeat("\x00", len(frame(3, 3)))
	for name, tc := range map[string]struct {
		file string
		want int // -1: refused
	}{
		"whole":            {frame(1, 1) + frame(2, 2) + frame(3, 3) + frame(4, 3), 4},
		"lost in a batch":  {frame(1, 1) + frame(2, 2) + lost + frame(4, 3), 2},
		"first of all":     {lost + frame(2, 1), 0},
		"acknowledged":     {frame(1, 1) + frame(2, 2) + lost + frame(4, 4), -1},
		"first but known":  {lost + frame(2, 2), -1},
		"a number missing": {frame(1, 1) + frame(3, 3), -1},
		"another file":     {"root:x:0:0:root:/root:/bin/sh\n", -1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "journal"), []byte(tc.file), 0o600))
			j, records, err := journal.Open(dir)
			if tc.want < 0 {
				wantError(t, err, sluicekeep.Unavailable, "at byte")
				after, _ := os.ReadFile(filepath.Join(dir, "journal"))
				if string(after) != tc.file {
					t.Fatal("a refused file was changed")
				}
				return
			}
			must(t, err)
			wantNotes(t, records, tc.want)
			must(t, j.Close())
		})
	}
}

func TestSecondOpenerIsTold(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	_, _, err := journal.Open(dir)
	wantError(t, err, sluicekeep.Conflict, "another sluicekeep up is running on "+dir)
	must(t, j.Close())
	j, _ = open(t, dir)
	must(t, j.Close())
}

func TestBadDirectories(t *testing.T) {
	dir := t.TempDir()
	file, open, link := filepath.Join(dir, "file"), filepath.Join(dir, "open"), filepath.Join(dir, "link")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o777))
	must(t, os.Mkdir(link, 0o700))
	must(t, os.Symlink(file, filepath.Join(link, "journal")))
	_, _, err := journal.Open(file)
	wantError(t, err, sluicekeep.Invalid, "not a directory")
	_, _, err = journal.Open(open)
	wantError(t, err, sluicekeep.Denied, "chmod 700")
	_, _, err = journal.Open(link)
	wantError(t, err, sluicekeep.Denied, "symbolic link")
}

// TestManyWriters appends from many goroutines; each record is there once and
// the sequence has no gap.
func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for n := range 20 {
				if err := j.Append(t.Context(), note(w*20+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	must(t, j.Close())
	j, records := open(t, dir)
	defer j.Close()
	found := map[string]int{}
	for i, r := range records {
		if r.Seq != uint64(i+1) {
			t.Fatalf("record %d has the number %d", i+1, r.Seq)
		}
		found[r.Change]++
	}
	if len(records) != 320 || len(found) != 320 {
		t.Fatalf("%d records of %d changes, want 320 of 320", len(records), len(found))
	}
}

func TestCancelledBeforeItIsWritten(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{j.Append(ctx, note(0)), j.AppendReserved(ctx, note(0))} {
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want a cancelled context", err)
		}
	}
	wantError(t, j.Append(t.Context(), journal.Record{Data: json.RawMessage("{")}), sluicekeep.Invalid)
	big, _ := json.Marshal(strings.Repeat("x", journal.MaxRecord))
	wantError(t, j.Append(t.Context(), journal.Record{Data: big}), sluicekeep.Invalid)
	wantError(t, j.Append(t.Context(), journal.Record{Intent: true}), sluicekeep.Invalid)
	must(t, j.Append(t.Context(), note(0)))
	must(t, j.Close())
	j, records := open(t, dir)
	wantNotes(t, records, 1)
	must(t, j.Close())
}

// TestCompact keeps the snapshot, goes on counting, and survives a compaction
// that a crash interrupted.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 50)
	j, _ := open(t, dir)
	before := j.Size()
	must(t, j.Compact(t.Context(), note(7), note(9)))
	if after := j.Size(); after >= before/2 {
		t.Fatalf("compacted from %d bytes to %d", before, after)
	}
	must(t, j.Append(t.Context(), note(50)))
	must(t, j.Close())
	must(t, os.WriteFile(filepath.Join(dir, "journal.new"), []byte("J1 half a compaction"), 0o600))
	for range 2 {
		j, records := open(t, dir)
		want := []journal.Record{note(7), note(9), note(50)}
		for i := range want {
			want[i].Seq = uint64(52 + i) // 50 notes and the head of the compacted file
		}
		if diff := cmp.Diff(want, records); diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}
		must(t, j.Close())
	}
	j, _ = open(t, dir)
	must(t, j.Compact(t.Context()))
	must(t, j.Close())
	j, records := open(t, dir)
	if len(records) != 0 {
		t.Fatalf("%d records after compacting to nothing", len(records))
	}
	must(t, j.Close())
}

// FuzzOpen opens hostile files: it never panics, never loses what it returned
// once, and leaves a file it refuses as it was.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(frame(1, 1) + frame(2, 2)))
	f.Add([]byte(frame(1, 1) + "\x00\x00" + frame(3, 2)))
	f.Add([]byte("J1 ffffffff 00000000 0000000000000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "journal")
		must(t, os.WriteFile(path, b, 0o600))
		j, records, err := journal.Open(dir)
		if err != nil {
			wantError(t, err, sluicekeep.Unavailable, path)
			if after, _ := os.ReadFile(path); !bytes.Equal(after, b) {
				t.Fatal("a refused file was changed")
			}
			return
		}
		must(t, j.Close())
		j, again := open(t, dir)
		if diff := cmp.Diff(records, again); diff != "" {
			t.Fatalf("the second opening differs:\n%s", diff)
		}
		must(t, j.Close())
	})
}
