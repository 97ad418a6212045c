// Package journal is the truth of a host: the agent writes every intent here,
// and only then changes the firewall.
//
//	j, records, err := journal.Open("/var/lib/sluicekeep/agent")
//	// … rebuild the state from records …
//	err = j.Append(ctx, journal.Record{Kind: "intent", Change: "c-1", Intent: true, Data: plan})
//	// … the effect …
//	err = j.AppendReserved(ctx, journal.Record{Kind: "undone", Change: "c-1", End: true})
//
// Append returns after fdatasync(2): what it acknowledged survives SIGKILL and
// power loss, as far as the disk keeps its word. Disk blocks for the undo of
// every intent are allocated (fallocate(2)) together with the intent, so a
// full disk refuses new intents and never an undo.
//
// Not promised: the allocation holds on file systems that write in place
// (ext4, xfs without reflinks, tmpfs); one that copies on write (btrfs, zfs)
// may need fresh blocks and refuse an undo record on a full disk. A damaged
// last record cannot be told from a torn write and is dropped, with a copy.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicekeep/sluicekeep"
)

// The files in the directory of a journal.
const (
	fileName = "journal"
	lockName = "journal.lock"
	newName  = "journal.new" // a compaction that has not happened yet
)

// Journal is an open journal. It is safe for concurrent use: records that are
// appended at once share one fdatasync.
type Journal struct {
	dir  string
	lock *os.File

	mu    sync.Mutex
	queue []*waiting

	// turn is held, as its one element, by whoever writes; it guards the rest.
	turn   chan struct{}
	file   *os.File
	seq    uint64           // of the last durable record
	end    int64            // where the next frame goes
	room   int64            // bytes of the file that have blocks
	grown  bool             // room grew since the last full sync
	owed   map[string]int64 // allowances set aside, by change
	broken error            // a write failed: nothing is certain until Open
}

// Open opens the journal in dir, making it when it is missing, and returns
// what it says, oldest first. A torn tail is cut off and kept beside it;
// damage in the middle is an error that names the place. Only one Journal may
// be open on a directory: a second is a Conflict.
func Open(dir string) (*Journal, []Record, error) {
	lock, err := acquire(dir)
	if err != nil {
		return nil, nil, explain(dir, "open the journal", err)
	}
	j := &Journal{dir: dir, lock: lock, turn: make(chan struct{}, 1)}
	records, err := j.load()
	if err != nil {
		return nil, nil, errors.Join(explain(dir, "open the journal", err), j.Close())
	}
	return j, records, nil
}

// acquire makes dir if need be and locks it for this process. The lock ends
// with the process, however it dies.
func acquire(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o002 != 0 {
		return nil, sluicekeep.Errorf(sluicekeep.Denied, "chmod 700 "+dir, "anybody may write to the state directory %s", dir)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = sluicekeep.Errorf(sluicekeep.Conflict, "stop it first, or choose another directory with --data",
			"another sluicekeep up is running on %s", dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// load reads the file, cuts a torn tail and takes stock of its blocks.
func (j *Journal) load() ([]Record, error) {
	if err := os.Remove(j.path(newName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path := j.path(fileName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	j.file = f
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	r, err := replay(b)
	if err != nil {
		return nil, sluicekeep.Errorf(sluicekeep.Unavailable,
			"keep a copy, then restore the file from a backup or move it away",
			"the journal %s is damaged: %w", path, err)
	}
	if len(r.torn) > 0 {
		if err := j.cut(r); err != nil {
			return nil, err
		}
	}
	j.seq, j.end, j.owed = r.seq, r.end, r.owed
	j.takeStock(int64(len(b)))
	return r.records, syncDir(j.dir)
}

// cut keeps a copy of a torn tail and writes zeros over it; truncating would
// give back blocks that are set aside. On a full disk the copy is given up:
// nobody was ever told that its records are safe.
func (j *Journal) cut(r replayed) error {
	copied := j.path(fmt.Sprintf("%s.torn-%d", fileName, r.seq+1))
	if err := os.WriteFile(copied, r.torn, 0o600); err != nil && !full(err) {
		return err
	}
	if _, err := j.file.WriteAt(make([]byte, len(r.torn)), r.end); err != nil {
		return err
	}
	return unix.Fdatasync(int(j.file.Fd()))
}

// path names a file of the journal.
func (j *Journal) path(name string) string { return filepath.Join(j.dir, name) }

// Close waits for writers and gives the directory free. Records that were
// acknowledged are safe with or without it.
func (j *Journal) Close() error {
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	j.broken = errors.Join(j.broken, errors.New("the journal is closed"))
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	return errors.Join(err, j.lock.Close())
}

// waiting is a record whose writer waits for its fate.
type waiting struct {
	record Record
	done   chan error // of capacity 1
}

// Append makes rec durable. A full disk refuses it with Unavailable and
// nothing was written; an Intent is refused as well when the room for its undo
// is missing. When ctx ends before the record is being written, nothing was
// written and ctx's error is returned; after that, Append waits for the disk.
func (j *Journal) Append(ctx context.Context, rec Record) error {
	rec.Reserved = false
	return j.append(ctx, rec)
}

// AppendReserved is Append for records that must not fail: undo and expiry.
// They are paid from the Allowance of their change; a longer one is like any
// other record.
func (j *Journal) AppendReserved(ctx context.Context, rec Record) error {
	rec.Reserved = true
	return j.append(ctx, rec)
}

// append queues rec and waits until somebody, perhaps itself, has written it.
func (j *Journal) append(ctx context.Context, rec Record) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("append to the journal: %w", err)
	}
	if rec.At.IsZero() {
		rec.At = time.Now().UTC()
	}
	w := &waiting{rec, make(chan error, 1)}
	j.mu.Lock()
	j.queue = append(j.queue, w)
	j.mu.Unlock()
	// Whoever gets the turn writes for all who wait, and so perhaps for us.
	select {
	case err := <-w.done:
		return err
	case j.turn <- struct{}{}:
		j.flush()
		<-j.turn
		return <-w.done
	case <-ctx.Done():
		if j.withdraw(w) {
			return fmt.Errorf("append to the journal: %w", ctx.Err())
		}
		return <-w.done
	}
}

// withdraw takes w back and reports whether it came in time.
func (j *Journal) withdraw(w *waiting) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, q := range j.queue {
		if q == w {
			j.queue = append(j.queue[:i], j.queue[i+1:]...)
			return true
		}
	}
	return false
}

// flush writes all that wait as one batch. The caller has the turn.
func (j *Journal) flush() {
	j.mu.Lock()
	queue := j.queue
	j.queue = nil
	j.mu.Unlock()
	b := batch{base: j.seq + 1, seq: j.seq}
	var taken []*waiting
	for _, w := range queue {
		if err := j.admit(&b, w.record); err != nil {
			w.done <- explain(j.dir, "append to the journal", err)
			continue
		}
		taken = append(taken, w)
	}
	err := j.write(b)
	for _, w := range taken {
		w.done <- explain(j.dir, "append to the journal", err)
	}
}

// batch is what one fdatasync makes durable.
type batch struct {
	bytes []byte
	base  uint64
	seq   uint64
}

// admit adds rec to b, if there is room for it and for all that is owed.
func (j *Journal) admit(b *batch, rec Record) error {
	if j.broken != nil {
		return sluicekeep.Errorf(sluicekeep.Unavailable, "restart sluicekeep",
			"the journal in %s is out of use: %w", j.dir, j.broken)
	}
	if rec.Change == "" && (rec.Intent || rec.Reserved) {
		return sluicekeep.Errorf(sluicekeep.Invalid, "name its change", "record %s belongs to no change", rec.Kind)
	}
	rec.Seq = b.seq + 1
	bytes, err := appendFrame(b.bytes, rec, b.base)
	if err != nil {
		return sluicekeep.Errorf(sluicekeep.Invalid, "make it smaller", "record %s of %s: %w", rec.Kind, rec.Change, err)
	}
	size := int64(len(bytes) - len(b.bytes))
	before, had := j.owed[rec.Change]
	account(j.owed, rec, size)
	err = j.ensure(j.end + int64(len(bytes)) + j.debt())
	// What was paid for in advance is written if there is a byte for it at all;
	// beyond its allowance a change may not use up the undo of others.
	paid := rec.Reserved && size <= before && j.end+int64(len(bytes)) <= j.room
	if err != nil && !paid {
		delete(j.owed, rec.Change)
		if had {
			j.owed[rec.Change] = before
		}
		return err
	}
	b.bytes, b.seq = bytes, rec.Seq
	return nil
}

// write makes b durable. After a failed fdatasync the kernel may have dropped
// the data and call it clean, so a second try would prove nothing.
func (j *Journal) write(b batch) error {
	if len(b.bytes) == 0 {
		return nil
	}
	_, err := j.file.WriteAt(b.bytes, j.end)
	if err == nil {
		err = j.sync()
	}
	if err != nil {
		j.broken = err
		return err
	}
	j.seq, j.end = b.seq, j.end+int64(len(b.bytes))
	return nil
}

// sync waits for the disk; a file that was allocated further needs its
// metadata there too, or a crash would give the room back.
func (j *Journal) sync() error {
	if !j.grown {
		return unix.Fdatasync(int(j.file.Fd()))
	}
	err := j.file.Sync()
	j.grown = err != nil
	return err
}
