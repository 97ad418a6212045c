package storetest

import (
	"math"
	"net/netip"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
