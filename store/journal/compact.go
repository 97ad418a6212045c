package journal

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Compact replaces all records by snapshot, which must say the same: every
// intent that is still open has to be in it, since its allowance goes with it.
// Sequence numbers go on and are given anew. Until the new file is durable
// under its name the old one is untouched, so a full disk costs nothing.
func (j *Journal) Compact(ctx context.Context, snapshot ...Record) error {
	select {
	case j.turn <- struct{}{}:
		defer func() { <-j.turn }()
	case <-ctx.Done():
		return fmt.Errorf("compact the journal: %w", ctx.Err())
	}
	if j.broken != nil {
		return explain(j.dir, "compact the journal", j.broken)
	}
	next := &Journal{dir: j.dir, owed: map[string]int64{}, seq: j.seq}
	if err := next.create(snapshot); err != nil {
		return explain(j.dir, "compact the journal", err)
	}
	if err := os.Rename(j.path(newName), j.path(fileName)); err != nil {
		return explain(j.dir, "compact the journal", errors.Join(err, next.discard()))
	}
	old := j.file
	j.file, j.seq, j.end = next.file, next.seq, next.end
	j.room, j.grown, j.owed = next.room, next.grown, next.owed
	if err := syncDir(j.dir); err != nil {
		j.broken = err // which of the two files a crash would show is unknown
		return explain(j.dir, "compact the journal", err)
	}
	return explain(j.dir, "compact the journal", old.Close())
}

// Size returns the bytes of all records, which tells when to compact.
func (j *Journal) Size() int64 {
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	return j.end
}

// create writes snapshot to a new file and makes it durable there.
func (j *Journal) create(snapshot []Record) error {
	f, err := os.OpenFile(j.path(newName), os.O_CREATE|os.O_TRUNC|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	j.file = f
	b := batch{base: j.seq + 1, seq: j.seq}
	head := Record{Kind: kindCompacted}
	for _, rec := range append([]Record{head}, snapshot...) {
		if err := j.admit(&b, rec); err != nil {
			return errors.Join(err, j.discard())
		}
	}
	if err := j.write(b); err != nil {
		return errors.Join(err, j.discard())
	}
	return nil
}

// discard removes a new file that could not be finished.
func (j *Journal) discard() error {
	return errors.Join(j.file.Close(), os.Remove(j.path(newName)))
}
