package storetest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store"
)

// Profile makes a profile as a scan would, with every part filled.
func Profile(asset, addr string, port uint16) sluicekeep.Profile {
	held, clients := true, 3
	return sluicekeep.Profile{
		Asset: asset, Address: netip.MustParseAddr(addr), Family: sluicekeep.FamilyOf(netip.MustParseAddr(addr)),
		Port: sluicekeep.Port{Transport: sluicekeep.TCP, Number: port}, Declared: sluicekeep.DeclaredOpen, Held: &held,
		Reachable: sluicekeep.Reaches{Host: sluicekeep.ReachOpen, Internet: sluicekeep.ReachFiltered},
		Predicted: sluicekeep.Reaches{Segment: sluicekeep.ReachOpen},
		Basis: map[sluicekeep.Zone]sluicekeep.Basis{
			sluicekeep.ZoneHost: {By: "probe", Vantage: "self", At: epoch()}, sluicekeep.ZoneSegment: {By: "rules", At: epoch()},
		},
		Process: &sluicekeep.Process{PID: 42, Exe: "/usr/bin/redis-server", Unit: "redis.service", Started: epoch()},
		Service: &sluicekeep.Service{Name: "redis", Product: "Redis", Version: "7.0", Confidence: 0.9},
		Risk:    &sluicekeep.Risk{Score: 70, Low: 60, High: 80, Parts: []sluicekeep.RiskPart{{Dimension: "exposure", Points: 30}}},
		Contradictions: []sluicekeep.Contradiction{
			{Kind: "published", Cause: "DNAT goes around INPUT", Rule: "-A DOCKER …", Remedy: "close it"},
		},
		KnownClients: &clients,
	}
}

// seen is p as the store must return it.
func seen(p sluicekeep.Profile, first, last time.Time) sluicekeep.Profile {
	p.FirstSeen, p.LastSeen = first, last
	basis := map[sluicekeep.Zone]sluicekeep.Basis{}
	for z, b := range p.Basis {
		if b.By == "rules" {
			b.At = last
		}
		basis[z] = b
	}
	p.Basis = basis
	return p
}

func wantProfiles(t *testing.T, db *store.DB, asOf time.Time, want ...sluicekeep.Profile) {
	t.Helper()
	got, err := db.Profiles(t.Context(), asOf)
	must(t, err)
	opts := gocmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}
	if diff := gocmp.Diff(want, got, opts); diff != "" {
		t.Fatalf("profiles as of %v (-want +got):\n%s", asOf, diff)
	}
}

// testHistory follows one port that appears, restarts, changes, vanishes and
// comes back.
func testHistory(t *testing.T, db *store.DB) {
	t0 := epoch()
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	first := Profile("web", "::", 80)
	must(t, db.SaveProfiles(t.Context(), at(0), []sluicekeep.Profile{first}))
	must(t, db.SaveProfiles(t.Context(), at(10), []sluicekeep.Profile{first}))
	wantProfiles(t, db, time.Time{}, seen(first, at(0), at(10)))

	restarted := first
	restarted.Process = &sluicekeep.Process{PID: 43, Exe: first.Process.Exe, Unit: first.Process.Unit, Started: at(15)}
	must(t, db.SaveProfiles(t.Context(), at(20), []sluicekeep.Profile{restarted}))
	wantProfiles(t, db, time.Time{}, seen(restarted, at(0), at(20)))

	closed := restarted
	closed.Declared = sluicekeep.DeclaredClosed
	must(t, db.SaveProfiles(t.Context(), at(30), []sluicekeep.Profile{closed}))
	must(t, db.SaveProfiles(t.Context(), at(40), nil, "web"))
	wantProfiles(t, db, time.Time{})
	must(t, db.SaveProfiles(t.Context(), at(50), []sluicekeep.Profile{first}))

	wantProfiles(t, db, at(-1))
	wantProfiles(t, db, at(25), seen(restarted, at(0), at(25)))
	wantProfiles(t, db, at(30), seen(closed, at(0), at(30)))
	wantProfiles(t, db, at(45))
	wantProfiles(t, db, time.Time{}, seen(first, at(0), at(50)))
	wantProfiles(t, db, at(3600), seen(first, at(0), at(50)))
}

// testScope saves one asset and leaves the others alone.
func testScope(t *testing.T, db *store.DB) {
	a, b := Profile("a", "0.0.0.0", 22), Profile("b", "0.0.0.0", 22)
	must(t, db.SaveProfiles(t.Context(), epoch(), []sluicekeep.Profile{a, b}))
	must(t, db.SaveProfiles(t.Context(), epoch().Add(time.Hour), nil, "a"))
	wantProfiles(t, db, time.Time{}, seen(b, epoch(), epoch()))
	must(t, db.SaveProfiles(t.Context(), epoch().Add(2*time.Hour), nil))
	wantProfiles(t, db, time.Time{}, seen(b, epoch(), epoch()))
	wantKind(t, db.SaveProfiles(t.Context(), epoch(), []sluicekeep.Profile{{Asset: "a"}}), sluicekeep.Invalid)
	wantKind(t, db.SaveProfiles(t.Context(), epoch(), nil, "a\x1b[2J"), sluicekeep.Invalid)
}

// testClockStep saves with a clock that was set back: history keeps its order.
func testClockStep(t *testing.T, db *store.DB) {
	p := Profile("a", "0.0.0.0", 22)
	must(t, db.SaveProfiles(t.Context(), epoch(), []sluicekeep.Profile{p}))
	changed := p
	changed.Declared = sluicekeep.DeclaredClosed
	must(t, db.SaveProfiles(t.Context(), epoch().Add(-time.Hour), []sluicekeep.Profile{changed}))
	wantProfiles(t, db, epoch().Add(-time.Minute))
	wantProfiles(t, db, time.Time{}, seen(changed, epoch(), epoch()))
}

// testRoundTrip keeps profiles with nothing in them as they are.
func testRoundTrip(t *testing.T, db *store.DB) {
	bare := sluicekeep.Profile{
		Asset: "a", Address: netip.MustParseAddr("fe80::1%eth0"), Family: sluicekeep.IPv6,
		Port: sluicekeep.Port{Transport: sluicekeep.SCTP, Number: 65535},
	}
	must(t, db.SaveProfiles(t.Context(), epoch(), []sluicekeep.Profile{bare}))
	wantProfiles(t, db, time.Time{}, seen(bare, epoch(), epoch()))
}

// testProfileModel compares random histories with a model that keeps every
// scan: any past moment must show the scan before it.
func testProfileModel(t *testing.T, db *store.DB) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		asset := fmt.Sprintf("host-%d", run) // one database, a fresh asset each time
		first, at := map[uint16]time.Time{}, epoch()
		type moment struct {
			at   time.Time
			want []sluicekeep.Profile
		}
		var history []moment
		for range rapid.IntRange(1, 8).Draw(rt, "scans") {
			at = at.Add(time.Duration(rapid.IntRange(1, 50).Draw(rt, "pause")) * time.Second)
			var ps, want []sluicekeep.Profile
			for _, port := range rapid.SliceOfNDistinct(rapid.Uint16Range(1, 5), 0, 5, rapid.ID).Draw(rt, "ports") {
				p := Profile(asset, "0.0.0.0", port)
				p.Declared = rapid.SampledFrom([]sluicekeep.Declared{"open", "closed"}).Draw(rt, "declared")
				p.Process.PID = rapid.IntRange(1, 2).Draw(rt, "pid")
				if first[port].IsZero() {
					first[port] = at
				}
				ps, want = append(ps, p), append(want, seen(p, first[port], at))
			}
			slices.SortFunc(want, func(a, b sluicekeep.Profile) int { return cmp.Compare(a.Number, b.Number) })
			if err := db.SaveProfiles(t.Context(), at, ps, asset); err != nil {
				rt.Fatal(err)
			}
			history = append(history, moment{at, want})
		}
		last := history[len(history)-1]
		compareHistory(rt, db, asset, time.Time{}, last.want, true)
		for _, m := range history {
			compareHistory(rt, db, asset, m.at, m.want, false)
		}
	})
}

// compareHistory compares one moment. A process id may be newer in the past,
// since it is a passing detail.
func compareHistory(
	rt *rapid.T, db *store.DB, asset string, asOf time.Time, want []sluicekeep.Profile, exact bool,
) {
	all, err := db.Profiles(rt.Context(), asOf)
	if err != nil {
		rt.Fatal(err)
	}
	var got []sluicekeep.Profile
	for _, p := range all {
		if p.Asset == asset {
			got = append(got, p)
		}
	}
	opts := gocmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}
	if !exact {
		opts = append(opts, cmpopts.IgnoreFields(sluicekeep.Process{}, "PID"))
	}
	if diff := gocmp.Diff(want, got, opts); diff != "" {
		rt.Fatalf("as of %v (-want +got):\n%s", asOf, diff)
	}
}
