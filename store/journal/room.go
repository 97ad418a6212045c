package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sluicekeep/sluicekeep"
)

// ahead is how many bytes are allocated at a time, so that most appends write
// into blocks that are already there.
const ahead = 256 << 10

// page is the unit in which the last bytes of a full disk are asked for.
const page = 4 << 10

// debt is the room that intents have set aside.
func (j *Journal) debt() int64 {
	var sum int64
	for _, n := range j.owed {
		sum += n
	}
	return sum
}

// Reserve allocates n bytes of room beyond what is set aside already, or is
// Unavailable. It is for work that is known to come.
func (j *Journal) Reserve(ctx context.Context, n int64) error {
	select {
	case j.turn <- struct{}{}:
		defer func() { <-j.turn }()
	case <-ctx.Done():
		return fmt.Errorf("reserve room in the journal: %w", ctx.Err())
	}
	if j.broken != nil {
		return explain(j.dir, "reserve room in the journal", j.broken)
	}
	err := j.ensure(j.end + j.debt() + n)
	if err == nil && j.grown {
		err = j.sync()
	}
	return explain(j.dir, "reserve room in the journal", err)
}

// ensure sees to it that the first n bytes of the file have blocks.
func (j *Journal) ensure(n int64) error {
	if n <= j.room {
		return nil
	}
	want := roundUp(n, ahead)
	err := allocate(j.file, j.room, want-j.room)
	if full(err) {
		want = roundUp(n, page)
		err = allocate(j.file, j.room, want-j.room)
	}
	if err != nil {
		return err
	}
	j.room, j.grown = want, true
	return nil
}

// takeStock finds out how much of the file has blocks. A file that was copied
// may have holes; when they cannot be filled, only what is written counts, and
// intents are refused until there is space.
func (j *Journal) takeStock(size int64) {
	j.room = j.end
	if size > j.end && allocate(j.file, j.end, size-j.end) == nil {
		j.room = size
	}
	_ = j.ensure(j.end + j.debt()) // a full disk shows at the next intent
}

// roundUp returns the smallest multiple of unit that is not below n.
func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// allocate gives blocks to a part of f. Where the file system cannot allocate
// it writes zeros, which has the same effect on one that writes in place.
func allocate(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, off, n)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			_, err = f.WriteAt(make([]byte, n), off)
		}
		return err
	}
}

// full reports whether err says that the disk, a quota or a size limit is
// reached: conditions that freeing space mends.
func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

// explain says what to do about an error of the disk.
func explain(dir, work string, err error) error {
	var said *sluicekeep.Error
	switch {
	case err == nil, errors.As(err, &said):
		return err
	case full(err):
		return sluicekeep.Errorf(sluicekeep.Unavailable, "free space; undo still works",
			"the disk of the state directory %s is full: %w", dir, err)
	case errors.Is(err, unix.EROFS):
		return sluicekeep.Errorf(sluicekeep.Unavailable, "mount it writable, or choose another with --data",
			"the state directory %s is read-only: %w", dir, err)
	case errors.Is(err, fs.ErrPermission):
		return sluicekeep.Errorf(sluicekeep.Denied, "run as its owner, or choose another with --data",
			"the state directory %s may not be written: %w", dir, err)
	case errors.Is(err, unix.ELOOP):
		return sluicekeep.Errorf(sluicekeep.Denied, "remove the link",
			"a file of the journal in %s is a symbolic link: %w", dir, err)
	case errors.Is(err, unix.ENOTDIR):
		return sluicekeep.Errorf(sluicekeep.Invalid, "choose a directory with --data", "%s is not a directory: %w", dir, err)
	}
	return sluicekeep.Errorf(sluicekeep.Unavailable, "check the disk of "+dir, "%s in %s: %w", work, dir, err)
}

// syncDir makes new names in dir durable; syncing a file does not do that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
