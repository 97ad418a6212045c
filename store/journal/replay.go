package journal

import (
	"bytes"
	"fmt"
)

// replayed is what the bytes of a file say.
type replayed struct {
	records []Record
	owed    map[string]int64 // allowances that are still set aside, by change
	seq     uint64           // of the last record
	end     int64            // where the next frame goes
	torn    []byte           // what a crash left behind end; nobody was told it is safe
}

// damage is corruption of records that were acknowledged.
type damage struct {
	offset int64
	what   string
}

// Error says what is damaged and where.
func (d damage) Error() string { return fmt.Sprintf("%s at byte %d", d.what, d.offset) }

// replay reads a whole file. Zeros behind the last frame are room that was
// allocated ahead.
func replay(b []byte) (replayed, error) {
	r := replayed{owed: map[string]int64{}}
	b = bytes.TrimRight(b, "\x00")
	if n := min(len(b), len(magic)); n > 0 && b[0] != 0 && string(b[:n]) != magic[:n] {
		return r, damage{0, "not a journal"}
	}
	for r.end < int64(len(b)) {
		f, err := parseFrame(b[r.end:])
		if err == nil && r.seq != 0 && f.record.Seq != r.seq+1 {
			err = fmt.Errorf("record %d after %d", f.record.Seq, r.seq)
		}
		if err != nil {
			return r, r.tail(b, err)
		}
		r.add(f)
	}
	return r, nil
}

// add takes the next frame. The head of a compacted file counts, but is ours.
func (r *replayed) add(f frame) {
	rec := f.record
	r.seq = rec.Seq
	r.end += int64(f.size)
	account(r.owed, rec, int64(f.size))
	if rec.Kind != kindCompacted {
		r.records = append(r.records, rec)
	}
}

// account moves the allowances as rec, a frame of size bytes, demands.
func account(owed map[string]int64, rec Record, size int64) {
	if left, ok := owed[rec.Change]; ok && rec.Reserved {
		owed[rec.Change] = max(0, left-size)
	}
	if rec.Intent {
		owed[rec.Change] = Allowance
	}
	if rec.End {
		delete(owed, rec.Change)
	}
}

// tail decides about a place that cannot be read. It is a torn tail, the
// trace of a crash in the middle of a write, unless a record behind it was
// written by a later write: then what stood here had been acknowledged.
func (r *replayed) tail(b []byte, why error) error {
	rest := b[r.end:]
	for i := range rest {
		// Text inside a record cannot pose as a frame: JSON has no bare line end.
		starts := i == 0 || rest[i-1] == '\n' || rest[i-1] == 0
		if !starts || rest[i] != magic[0] {
			continue
		}
		if f, err := parseFrame(rest[i:]); err == nil && f.base > r.seq+1 {
			return damage{r.end, why.Error()}
		}
	}
	r.torn = rest
	return nil
}
