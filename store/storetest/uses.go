package storetest

import (
	"math"
	"net/netip"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store"
)

func useAt(source string, port uint16, at time.Time, in, out uint64) sluicekeep.Use {
	return sluicekeep.Use{
		Port: sluicekeep.Port{Transport: sluicekeep.TCP, Number: port}, Source: netip.MustParseAddr(source),
		Hour: at.Truncate(time.Hour), First: at, Last: at.Add(time.Second), BytesIn: in, BytesOut: out, By: "sock_diag",
	}
}

func wantClients(t *testing.T, db *store.DB, since time.Time, want ...sluicekeep.Client) {
	t.Helper()
	got, err := db.Clients(t.Context(), since)
	must(t, err)
	if diff := gocmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("clients (-want +got):\n%s", diff)
	}
}

// testUses saves the same uses over and over, in any order.
func testUses(t *testing.T, db *store.DB) {
	early, late := useAt("10.0.0.9", 80, epoch(), 5, math.MaxUint64), useAt("10.0.0.9", 80, epoch().Add(time.Minute), 3, 0)
	mapped := useAt("::ffff:10.0.0.9", 80, epoch(), 0, 0)
	other := useAt("2001:db8::1", 22, epoch(), 0, 0)
	for range 3 {
		must(t, db.SaveUses(t.Context(), []sluicekeep.Use{late, early, late, mapped}))
		must(t, db.SaveUses(t.Context(), []sluicekeep.Use{other, early}))
	}
	must(t, db.SaveUses(t.Context(), nil))
	wantClients(t, db, time.Time{},
		sluicekeep.Client{Port: other.Port, Source: other.Source, First: other.First, Last: other.Last, By: "sock_diag"},
		sluicekeep.Client{
			Port: early.Port, Source: early.Source, First: early.First, Last: late.Last, PayloadHours: 1, By: "sock_diag",
		})
	wantKind(t, db.SaveUses(t.Context(), []sluicekeep.Use{{Port: early.Port}}), sluicekeep.Invalid)
}

// testPayloadHours counts only hours with bytes in both directions.
func testPayloadHours(t *testing.T, db *store.DB) {
	var uses []sluicekeep.Use
	for h := range 6 {
		in, out := uint64(h%2), uint64(h%3) // both only in hours 1 and 5
		uses = append(uses, useAt("10.0.0.9", 80, epoch().Add(time.Duration(h)*time.Hour), in, out))
	}
	must(t, db.SaveUses(t.Context(), uses))
	want := sluicekeep.Client{
		Port: uses[0].Port, Source: uses[0].Source, First: uses[0].First, Last: uses[5].Last, PayloadHours: 2, By: "sock_diag",
	}
	wantClients(t, db, time.Time{}, want)
	want.First, want.PayloadHours = uses[2].First, 1
	wantClients(t, db, uses[2].Last, want)
	wantClients(t, db, uses[5].Last.Add(1))
}

// testUsesInAnyOrder saves random uses whole, and again shuffled, repeated and
// in parts: the clients are the same.
func testUsesInAnyOrder(t *testing.T, db *store.DB) {
	draw := rapid.Custom(func(rt *rapid.T) sluicekeep.Use {
		at := epoch().Add(time.Duration(rapid.IntRange(0, 300).Draw(rt, "minute")) * time.Minute)
		source := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "2001:db8::1"}).Draw(rt, "source")
		in, out := rapid.Uint64Range(0, 2).Draw(rt, "in"), rapid.Uint64Range(0, 2).Draw(rt, "out")
		return useAt(source, rapid.Uint16Range(1, 2).Draw(rt, "port"), at, in, out)
	})
	rapid.Check(t, func(rt *rapid.T) {
		uses := rapid.SliceOfN(draw, 1, 12).Draw(rt, "uses")
		forget := func() {
			_, err := db.Prune(t.Context(), epoch().AddDate(9, 0, 0), store.Retention{})
			must(t, err)
		}
		forget()
		must(t, db.SaveUses(t.Context(), uses))
		want, err := db.Clients(t.Context(), time.Time{})
		must(t, err)
		forget()
		shuffled := rapid.Permutation(append(uses, uses...)).Draw(rt, "shuffled")
		cut := rapid.IntRange(0, len(shuffled)).Draw(rt, "cut")
		must(t, db.SaveUses(t.Context(), shuffled[:cut]))
		must(t, db.SaveUses(t.Context(), shuffled[cut:]))
		wantClients(t, db, time.Time{}, want...)
	})
}

// testWatchingUnion compares random watches with a line of minutes.
func testWatchingUnion(t *testing.T, db *store.DB) {
	const line, gap = 120, int(store.WatchGap / time.Minute)
	at := func(m int) time.Time { return epoch().Add(time.Duration(m) * time.Minute) }
	rapid.Check(t, func(rt *rapid.T) {
		_, err := db.Prune(t.Context(), epoch().AddDate(9, 0, 0), store.Retention{})
		must(t, err)
		var watched [line]bool // the minute that begins at the index
		for range rapid.IntRange(1, 8).Draw(rt, "watches") {
			from := rapid.IntRange(0, line-2).Draw(rt, "from")
			to := rapid.IntRange(from+1, min(line-1, from+30)).Draw(rt, "to")
			must(t, db.Watching(t.Context(), at(from), at(to)))
			for m := from; m < to; m++ {
				watched[m] = true
			}
		}
		want, last, start := 0, -gap-1, 0
		for m, on := range watched {
			switch {
			case !on:
				continue
			case last >= 0 && m-last-1 <= gap:
				want += m - last // the minute, and the pause before it
			default:
				want, start = want+1, m
			}
			last = m
		}
		got, err := db.Watched(t.Context(), time.Time{})
		must(t, err)
		from, err := db.WatchedSince(t.Context())
		must(t, err)
		if got != time.Duration(want)*time.Minute || !from.Equal(at(start)) {
			rt.Fatalf("watched %v, last from %v; want %d minutes, last from %v", got, from, want, at(start))
		}
	})
}

func testWatching(t *testing.T, db *store.DB) {
	at := func(m int) time.Time { return epoch().Add(time.Duration(m) * time.Minute) }
	want := func(since time.Time, total time.Duration, start time.Time) {
		t.Helper()
		got, err := db.Watched(t.Context(), since)
		must(t, err)
		from, err := db.WatchedSince(t.Context())
		must(t, err)
		if got != total || !from.Equal(start) {
			t.Fatalf("watched %v since %v, want %v since %v", got, from, total, start)
		}
	}
	want(at(0), 0, time.Time{})
	must(t, db.Watching(t.Context(), at(0), at(10)))
	must(t, db.Watching(t.Context(), at(10), at(20)))
	must(t, db.Watching(t.Context(), at(24), at(30))) // a restart
	want(at(0), 30*time.Minute, at(0))
	want(at(25), 5*time.Minute, at(0))
	must(t, db.Watching(t.Context(), at(60), at(70))) // nobody looked for half an hour
	want(at(0), 40*time.Minute, at(60))
	must(t, db.Watching(t.Context(), at(30), at(60))) // told late
	want(at(0), 70*time.Minute, at(0))
	wantKind(t, db.Watching(t.Context(), at(2), at(1)), sluicekeep.Invalid)
}

// Uses makes uses of one port by n sources.
func Uses(n int) []sluicekeep.Use {
	uses := make([]sluicekeep.Use, n)
	source := netip.MustParseAddr("10.0.0.1")
	for i := range uses {
		uses[i] = useAt(source.String(), 6379, epoch(), 100, 100)
		source = source.Next()
	}
	return uses
}
