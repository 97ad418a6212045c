package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicekeep/sluicekeep/store/journal"
)

// injected runs script in dir under strace(1), which tampers with its system
// calls, and returns what it said. Killed tells whether it died of it.
func injected(t *testing.T, dir, tamper string) (said string, killed bool) {
	t.Helper()
	cmd := role(t, "script", dir)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("this test needs strace: run `make test` (%v)", err)
	}
	cmd.Path = strace
	cmd.Args = append([]string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=" + tamper}, cmd.Args...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		return string(out), ok && status.Signaled() && status.Signal() == syscall.SIGKILL
	}
	must(t, err)
	return string(out), false
}

// script opens, appends, takes back and compacts, and says what was
// acknowledged. It stays on one thread, on which strace counts.
func script(t *testing.T, dir string) {
	runtime.LockOSThread()
	j, records := open(t, dir)
	ctx := context.Background()
	for n := len(records); n < 6; n++ {
		if err := j.Append(ctx, note(n)); err != nil {
			fmt.Println("refused", n, err)
			continue
		}
		fmt.Println("ack", n)
		if n == 3 {
			if err := j.Compact(ctx, note(0), note(1), note(2), note(3)); err != nil {
				fmt.Println("not compacted", err)
			}
		}
	}
}

// TestKillAtEverySystemCall kills the script at each call that touches the
// disk, and lets another finish the work: what was acknowledged is there, and
// at most one record that was not.
func TestKillAtEverySystemCall(t *testing.T) {
	if dir, ok := playing("script"); ok {
		script(t, dir)
		return
	}
	kills := 0
	for _, call := range []string{
		"openat", "flock", "unlinkat", "fallocate", "pwrite64", "fsync", "fdatasync", "renameat",
	} {
		for when := 1; killAt(t, call, when); when++ { // strace counts each call by itself
			kills++
			if when > 100 {
				t.Fatalf("the script makes %s without end", call)
			}
		}
	}
	if kills < 20 {
		t.Fatalf("killed at %d system calls only", kills)
	}
	t.Logf("killed at each of %d system calls", kills)
}

// killAt reports whether the script got as far as the call to be killed at.
func killAt(t *testing.T, call string, when int) bool {
	t.Helper()
	dir := t.TempDir()
	said, killed := injected(t, dir, fmt.Sprintf("%s:signal=KILL:when=%d", call, when))
	acked := strings.Count(said, "ack ")
	j, records := open(t, dir)
	if len(records) < acked || len(records) > acked+1 {
		t.Fatalf("%s %d: %d records, %d acknowledged", call, when, len(records), acked)
	}
	for n := len(records); n < 6; n++ {
		must(t, j.Append(t.Context(), note(n)))
	}
	must(t, j.Close())
	j, records = open(t, dir)
	must(t, j.Close())
	want := []journal.Record{note(0), note(1), note(2), note(3), note(4), note(5)}
	if diff := cmp.Diff(want, records, cmpopts.IgnoreFields(journal.Record{}, "Seq")); diff != "" {
		t.Fatalf("%s %d (-want +got):\n%s", call, when, diff)
	}
	return killed
}

// TestFailingDisk has fdatasync and writes fail: the record is refused, and so
// is all that follows, since nobody knows what the kernel still holds.
func TestFailingDisk(t *testing.T) {
	if dir, ok := playing("script"); ok {
		script(t, dir)
		return
	}
	for _, tamper := range []string{"fdatasync:error=EIO:when=2", "pwrite64:error=EIO:when=3"} {
		dir := t.TempDir()
		said, _ := injected(t, dir, tamper)
		acked := strings.Count(said, "ack ")
		if acked == 0 || acked == 6 || strings.Count(said, "refused") != 6-acked || !strings.Contains(said, "out of use") {
			t.Fatalf("%s: the script said\n%s", tamper, said)
		}
		j, records := open(t, dir)
		must(t, j.Close())
		if len(records) < acked {
			t.Fatalf("%s: %d records, %d acknowledged", tamper, len(records), acked)
		}
	}
}

// TestFullDiskRefusesCleanly has the allocation fail at different moments: a
// refused record leaves no trace and the journal goes on.
func TestFullDiskRefusesCleanly(t *testing.T) {
	if dir, ok := playing("script"); ok {
		script(t, dir)
		return
	}
	for when := 1; when <= 4; when++ {
		dir := t.TempDir()
		said, _ := injected(t, dir, fmt.Sprintf("fallocate:error=ENOSPC:when=%d+", when))
		j, records := open(t, dir)
		must(t, j.Close())
		if got, want := len(records), strings.Count(said, "ack "); got != want {
			t.Fatalf("allocation %d: %d records, %d acknowledged:\n%s", when, got, want, said)
		}
	}
}
