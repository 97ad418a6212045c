package store_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store"
	"github.com/sluicekeep/sluicekeep/store/storetest"
)

const writerEnv = "SLUICEKEEP_STORE_WRITER"

// TestKill kills a writer at random moments, over and over: every commit that
// was acknowledged is there.
func TestKill(t *testing.T) {
	if dsn := os.Getenv(writerEnv); dsn != "" {
		writeForever(t, dsn)
	}
	for name, place := range map[string]func(*testing.T) string{
		"sqlite":     func(t *testing.T) string { return filepath.Join(t.TempDir(), "s.db") },
		"postgresql": postgresPlace,
	} {
		t.Run(name, func(t *testing.T) { killLoop(t, place(t)) })
	}
}

func killLoop(t *testing.T, dsn string) {
	var acked []string
	for range 6 {
		acked = append(acked, killOne(t, dsn)...)
		db, err := store.Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range acked {
			if c, err := db.Change(t.Context(), id); err != nil || len(c.Story) != 1 {
				t.Fatalf("%s was acknowledged with its story, now it is %+v, error %v", id, c, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged, all there", len(acked))
}

// killOne starts a writer, kills it and returns the changes it announced.
func killOne(t *testing.T, dsn string) (acked []string) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), writerEnv+"="+dsn)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := 1 + rand.IntN(25)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		id, ok := strings.CutPrefix(lines.Text(), "ack ")
		if !ok {
			continue
		}
		acked = append(acked, id)
		if stop--; stop == 0 {
			_ = cmd.Process.Kill() // the pipe still holds what it announced
		}
	}
	_ = cmd.Wait() // it was killed
	if len(acked) == 0 {
		t.Fatal("the writer announced nothing")
	}
	return acked
}

func writeForever(t *testing.T, dsn string) {
	ctx := context.Background()
	db, err := store.Open(ctx, dsn)
	for err == nil {
		var id string
		if id, err = db.NextChangeID(ctx); err != nil {
			break
		}
		c := sluicekeep.Change{ID: id, State: sluicekeep.Planned, Asked: time.Now()}
		if err = db.SaveChange(ctx, &c); err != nil {
			break
		}
		if err = db.AppendStory(ctx, id, sluicekeep.Event{Kind: "story"}); err == nil {
			fmt.Println("ack " + id)
		}
	}
	t.Fatal(err)
}

// profiles makes a host with n ports.
func profiles(n int) []sluicekeep.Profile {
	ps := make([]sluicekeep.Profile, n)
	for i := range ps {
		ps[i] = storetest.Profile("web-01", "0.0.0.0", uint16(i+1))
	}
	return ps
}

// BenchmarkSaveUnchanged saves 2,000 ports that are as they were.
func BenchmarkSaveUnchanged(b *testing.B) {
	db := storetest.Open(b, filepath.Join(b.TempDir(), "s.db"))
	ps, at := profiles(2000), time.Now()
	for b.Loop() {
		at = at.Add(5 * time.Second)
		if err := db.SaveProfiles(b.Context(), at, ps); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSaveChanged saves 2,000 ports that all changed.
func BenchmarkSaveChanged(b *testing.B) {
	db := storetest.Open(b, filepath.Join(b.TempDir(), "s.db"))
	ps, at := profiles(2000), time.Now()
	for n := 0; b.Loop(); n++ {
		at = at.Add(5 * time.Second)
		for i := range ps {
			ps[i].Owner = strconv.Itoa(n)
		}
		if err := db.SaveProfiles(b.Context(), at, ps); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkProfiles reads the ports table of 2,000 ports.
func BenchmarkProfiles(b *testing.B) {
	db := storetest.Open(b, filepath.Join(b.TempDir(), "s.db"))
	if err := db.SaveProfiles(b.Context(), time.Now(), profiles(2000)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if got, err := db.Profiles(b.Context(), time.Time{}); err != nil || len(got) != 2000 {
			b.Fatal(len(got), err)
		}
	}
}

// BenchmarkSaveUses merges the uses of 1,000 clients.
func BenchmarkSaveUses(b *testing.B) {
	db := storetest.Open(b, filepath.Join(b.TempDir(), "s.db"))
	uses := storetest.Uses(1000)
	for b.Loop() {
		if err := db.SaveUses(b.Context(), uses); err != nil {
			b.Fatal(err)
		}
	}
}
