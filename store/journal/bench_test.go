package journal_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkAppend measures one durable record against the bare fdatasync of
// the same size on the same disk, measured in turns so that both meet the
// same neighbours.
func BenchmarkAppend(b *testing.B) {
	dir := b.TempDir()
	j, _ := open(b, dir)
	defer j.Close()
	f, err := os.Create(filepath.Join(dir, "bare"))
	must(b, err)
	defer f.Close()
	must(b, unix.Fallocate(int(f.Fd()), 0, 0, 64<<20))
	must(b, f.Sync())
	line := []byte(frame(10, 10))
	var ours, bare []time.Duration
	var off int64
	for b.Loop() {
		start := time.Now()
		must(b, j.Append(b.Context(), note(10)))
		middle := time.Now()
		_, err := f.WriteAt(line, off)
		must(b, err)
		must(b, unix.Fdatasync(int(f.Fd())))
		ours, bare = append(ours, middle.Sub(start)), append(bare, time.Since(middle))
		off = (off + int64(len(line))) % (60 << 20)
	}
	report(b, "append", ours)
	report(b, "fdatasync", bare)
}

func report(b *testing.B, name string, d []time.Duration) {
	slices.Sort(d)
	for q, at := range map[string]int{"p50": len(d) / 2, "p99": len(d) * 99 / 100} {
		b.ReportMetric(float64(d[at].Microseconds()), name+"-"+q+"-µs")
	}
}

// BenchmarkAppendTogether has 64 writers share the syncs.
func BenchmarkAppendTogether(b *testing.B) {
	j, _ := open(b, b.TempDir())
	defer j.Close()
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			must(b, j.Append(b.Context(), note(int(n.Add(1)%40))))
		}
	})
}
