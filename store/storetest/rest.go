package storetest

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store"
)

func testVantages(t *testing.T, db *store.DB) {
	inside := sluicekeep.Vantage{Name: "inside", Zone: sluicekeep.ZoneSegment, Namespace: "sk-seg"}
	out := sluicekeep.Vantage{Name: "out", Zone: sluicekeep.ZoneInternet, SSH: "probe@out.example.org"}
	must(t, db.PutVantage(t.Context(), out))
	must(t, db.PutVantage(t.Context(), sluicekeep.Vantage{Name: "inside", Zone: sluicekeep.ZoneHost}))
	must(t, db.PutVantage(t.Context(), inside))
	got, err := db.Vantages(t.Context())
	must(t, err)
	if diff := gocmp.Diff([]sluicekeep.Vantage{inside, out}, got); diff != "" {
		t.Fatalf("vantages (-want +got):\n%s", diff)
	}
	must(t, db.DeleteVantage(t.Context(), "out"))
	wantKind(t, db.DeleteVantage(t.Context(), "out"), sluicekeep.NotFound)
	wantKind(t, db.PutVantage(t.Context(), sluicekeep.Vantage{}), sluicekeep.Invalid)
}

func testProbes(t *testing.T, db *store.DB) {
	addr, port := netip.MustParseAddr("192.0.2.7"), sluicekeep.Port{Transport: sluicekeep.TCP, Number: 6379}
	probe := func(vantage string, reach sluicekeep.Reach, minute int) sluicekeep.Probe {
		return sluicekeep.Probe{
			Vantage: vantage, Zone: sluicekeep.ZoneInternet, Address: addr, Port: port,
			Reach: reach, Reason: "syn-ack", At: epoch().Add(time.Duration(minute) * time.Minute),
		}
	}
	must(t, db.SaveProbes(t.Context(), []sluicekeep.Probe{probe("out", "open", 0)}))
	// Late, unordered and repeated answers in one batch.
	must(t, db.SaveProbes(t.Context(), []sluicekeep.Probe{
		probe("out", "filtered", 3), probe("out", "open", 1), probe("out", "open", 1), probe("in", "open", 2),
	}))
	must(t, db.SaveProbes(t.Context(), []sluicekeep.Probe{probe("out", "open", 2), probe("out", "filtered", 4)}))
	opts := cmpopts.EquateComparable(netip.Addr{})

	latest, err := db.Probes(t.Context(), time.Time{})
	must(t, err)
	if diff := gocmp.Diff([]sluicekeep.Probe{probe("in", "open", 2), probe("out", "filtered", 4)}, latest, opts); diff != "" {
		t.Fatalf("latest (-want +got):\n%s", diff)
	}
	if latest, err = db.Probes(t.Context(), epoch().Add(3*time.Minute)); err != nil || len(latest) != 1 {
		t.Fatalf("%d recent probes, error %v; want 1", len(latest), err)
	}
	history, err := db.ProbeHistory(t.Context(), addr, port, time.Time{})
	must(t, err)
	want := []sluicekeep.Probe{probe("out", "filtered", 4), probe("in", "open", 2), probe("out", "open", 1)}
	if diff := gocmp.Diff(want, history, opts); diff != "" {
		t.Fatalf("history (-want +got):\n%s", diff)
	}
	wantKind(t, db.SaveProbes(t.Context(), []sluicekeep.Probe{{Vantage: "out"}}), sluicekeep.Invalid)
}

func testGrants(t *testing.T, db *store.DB) {
	file := sluicekeep.Grant{ID: "g-1", Asset: "web", Source: "policy", From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	person := sluicekeep.Grant{ID: "g-2", Asset: "web", Source: "approval", Until: epoch()}
	must(t, db.PutGrant(t.Context(), file))
	must(t, db.PutGrant(t.Context(), person))
	stolen := file
	stolen.Source = "approval"
	wantKind(t, db.PutGrant(t.Context(), stolen), sluicekeep.Conflict)
	must(t, db.EndGrant(t.Context(), "g-1", epoch(), "closed by c-1"))
	must(t, db.EndGrant(t.Context(), "g-1", epoch(), "closed again"))
	wantKind(t, db.EndGrant(t.Context(), "g-9", epoch(), ""), sluicekeep.NotFound)
	wantGrants(t, db, false, person)
	file.Tombstone = "closed by c-1"
	wantGrants(t, db, true, file, person)
}

func wantGrants(t *testing.T, db *store.DB, all bool, want ...sluicekeep.Grant) {
	t.Helper()
	got, err := db.Grants(t.Context(), all)
	must(t, err)
	opts := gocmp.Options{cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()}
	if diff := gocmp.Diff(want, got, opts); diff != "" {
		t.Fatalf("grants (-want +got):\n%s", diff)
	}
}

// testPolicy applies documents; one that cannot be applied changes nothing.
func testPolicy(t *testing.T, db *store.DB) {
	_, err := db.Policy(t.Context())
	wantKind(t, err, sluicekeep.NotFound)
	a, b := sluicekeep.Grant{ID: "a", Source: "policy"}, sluicekeep.Grant{ID: "b", Source: "policy"}
	mine := sluicekeep.Grant{ID: "mine", Source: "approval"}
	must(t, db.PutGrant(t.Context(), mine))
	must(t, db.ApplyPolicy(t.Context(), store.Policy{Text: "one", Applied: epoch(), By: "x"}, []sluicekeep.Grant{a, b}))
	err = db.ApplyPolicy(t.Context(), store.Policy{Text: "two", Applied: epoch()}, []sluicekeep.Grant{{ID: "mine"}})
	wantKind(t, err, sluicekeep.Conflict)
	wantGrants(t, db, false, a, b, mine)
	must(t, db.ApplyPolicy(t.Context(), store.Policy{Text: "three", Applied: epoch(), By: "y"}, []sluicekeep.Grant{b}))
	wantGrants(t, db, false, b, mine)
	p, err := db.Policy(t.Context())
	must(t, err)
	if p.Text != "three" || p.By != "y" || len(p.Hash) != 64 || !p.Applied.Equal(epoch()) || p.Number != 2 {
		t.Fatalf("got policy %+v", p)
	}
	if all, err := db.Policies(t.Context(), 0); err != nil || len(all) != 2 {
		t.Fatalf("%d policies, error %v; want 2", len(all), err)
	}
}

func testEvents(t *testing.T, db *store.DB) {
	for i := range 6 {
		n, err := db.AppendEvent(t.Context(), sluicekeep.Event{
			At: epoch().Add(time.Duration(i) * time.Hour), Kind: []string{"knock", "change"}[i%2], Change: "c-1",
		})
		must(t, err)
		if n != int64(i+1) {
			t.Fatalf("event number %d, want %d", n, i+1)
		}
	}
	for name, tc := range map[string]struct {
		filter store.EventFilter
		want   []int64
	}{
		"all":   {store.EventFilter{}, []int64{1, 2, 3, 4, 5, 6}},
		"after": {store.EventFilter{After: 2, Limit: 2}, []int64{3, 4}},
		"kind":  {store.EventFilter{Kind: "change", Since: epoch().Add(2 * time.Hour)}, []int64{4, 6}},
		"other": {store.EventFilter{Change: "c-2"}, nil},
	} {
		got, err := db.Events(t.Context(), tc.filter)
		must(t, err)
		var numbers []int64
		for _, e := range got {
			numbers = append(numbers, e.Number)
		}
		if diff := gocmp.Diff(tc.want, numbers); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func testTokens(t *testing.T, db *store.DB) {
	want := store.Token{
		ID: "t-1", Kind: "login", Name: "local-admin", Role: "admin",
		Created: epoch(), Expires: epoch().Add(10 * time.Minute), Data: []byte{0, 1, 255},
	}
	must(t, db.PutToken(t.Context(), "secret", want))
	got, err := db.Token(t.Context(), "login", "secret", epoch())
	must(t, err)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("token (-want +got):\n%s", diff)
	}
	for _, wrong := range []struct {
		kind, secret string
		now          time.Time
	}{{"login", "Secret", epoch()}, {"api", "secret", epoch()}, {"login", "secret", want.Expires}} {
		_, err := db.Token(t.Context(), wrong.kind, wrong.secret, wrong.now)
		wantKind(t, err, sluicekeep.NotFound)
		_, err = db.TakeToken(t.Context(), wrong.kind, wrong.secret, wrong.now)
		wantKind(t, err, sluicekeep.NotFound)
	}
	_, err = db.TakeToken(t.Context(), "login", "secret", epoch())
	must(t, err)
	_, err = db.TakeToken(t.Context(), "login", "secret", epoch())
	wantKind(t, err, sluicekeep.NotFound)
	wantKind(t, db.PutToken(t.Context(), "", want), sluicekeep.Invalid)
	must(t, db.PutToken(t.Context(), "s2", store.Token{ID: "t-2", Kind: "api"}))
	wantKind(t, db.PutToken(t.Context(), "s3", store.Token{ID: "t-2", Kind: "api"}), sluicekeep.Conflict)
	if all, err := db.Tokens(t.Context(), "api"); err != nil || len(all) != 1 {
		t.Fatalf("%d tokens, error %v; want 1", len(all), err)
	}
	must(t, db.DeleteToken(t.Context(), "t-2"))
	must(t, db.DeleteToken(t.Context(), "t-2"))
}

func testSessions(t *testing.T, db *store.DB) {
	s := db.Sessions()
	for _, data := range []string{"one", "two"} {
		must(t, s.Commit("cookie", []byte(data), time.Now().Add(time.Hour)))
		got, found, err := s.Find("cookie")
		if err != nil || !found || string(got) != data {
			t.Fatalf("session %q, found %v, error %v", got, found, err)
		}
	}
	must(t, s.Commit("old", nil, time.Now().Add(-time.Second)))
	must(t, s.Delete("cookie"))
	for _, gone := range []string{"cookie", "old", "never"} {
		if _, found, err := s.Find(gone); err != nil || found {
			t.Fatalf("session %s: found %v, error %v", gone, found, err)
		}
	}
}

func testKeys(t *testing.T, db *store.DB) {
	claim := func(request string, after time.Duration) ([]byte, bool, error) {
		return db.ClaimKey(t.Context(), "key", request, epoch().Add(after))
	}
	_, settled, err := claim("close 80", 0)
	if err != nil || settled {
		t.Fatalf("first claim: settled %v, error %v", settled, err)
	}
	_, _, err = claim("close 80", time.Second)
	wantKind(t, err, sluicekeep.Conflict)
	_, settled, err = claim("close 80", store.ClaimTimeout+time.Second) // its process died
	if err != nil || settled {
		t.Fatalf("claim after the timeout: settled %v, error %v", settled, err)
	}
	must(t, db.ReleaseKey(t.Context(), "key"))
	_, _, err = claim("close 80", 0)
	must(t, err)
	must(t, db.SettleKey(t.Context(), "key", []byte{0, 'c'}))
	must(t, db.ReleaseKey(t.Context(), "key")) // too late to matter
	reply, settled, err := claim("close 80", 24*time.Hour)
	if err != nil || !settled || !bytes.Equal(reply, []byte{0, 'c'}) {
		t.Fatalf("reply %q, settled %v, error %v", reply, settled, err)
	}
	_, _, err = claim("close 443", 0)
	wantKind(t, err, sluicekeep.Conflict)
}

func testPrune(t *testing.T, db *store.DB) {
	old, now := epoch(), epoch().AddDate(3, 0, 0)
	p := Profile("web", "::", 80)
	must(t, db.SaveProfiles(t.Context(), old, []sluicekeep.Profile{p, Profile("web", "::", 81)}))
	must(t, db.SaveProfiles(t.Context(), old.Add(time.Hour), []sluicekeep.Profile{p}))
	must(t, db.SaveUses(t.Context(), []sluicekeep.Use{useAt("10.0.0.9", 80, old, 1, 1), useAt("10.0.0.9", 81, now, 1, 1)}))
	must(t, db.Watching(t.Context(), old, old.Add(time.Hour)))
	must(t, db.SaveProbes(t.Context(), []sluicekeep.Probe{{Vantage: "v", Address: p.Address, Port: p.Port, At: old}}))
	_, err := db.AppendEvent(t.Context(), sluicekeep.Event{At: old})
	must(t, err)
	_, _, err = db.ClaimKey(t.Context(), "key", "r", old)
	must(t, err)
	must(t, db.PutToken(t.Context(), "s", store.Token{ID: "t", Expires: old}))

	keep := store.Retention{Clients: -1, Spans: -1, Probes: -1, Events: -1, Keys: -1}
	n, err := db.Prune(t.Context(), now, keep)
	must(t, err)
	if want := (store.Pruned{Tokens: 1}); n != want {
		t.Fatalf("kept for ever, but pruned %+v", n)
	}
	n, err = db.Prune(t.Context(), now, store.Retention{})
	must(t, err)
	if want := (store.Pruned{Uses: 1, Spans: 1, Probes: 1, Events: 1, Keys: 1}); n != want {
		t.Fatalf("pruned %+v, want %+v", n, want)
	}
	if d, err := db.Watched(t.Context(), time.Time{}); err != nil || d != 0 {
		t.Fatalf("watched %v, error %v", d, err)
	}
	wantProfiles(t, db, time.Time{}, seen(p, old, old.Add(time.Hour))) // open spans stay
}

// testHostileText keeps text with quotes, NUL, invalid UTF-8 and SQL as data.
func testHostileText(t *testing.T, db *store.DB) {
	text := "'; DROP TABLE changes; -- \\' \" ? $1 \u202e 中文 " + strings.Repeat("x", 1<<20)
	c := newChange(t, db, sluicekeep.Planned, epoch())
	c.Plan.Reason, c.Plan.Asset = text, "o'brien\\?"
	must(t, db.SaveChange(t.Context(), c))
	got, err := db.Change(t.Context(), c.ID)
	must(t, err)
	if got.Plan.Reason != text {
		t.Fatal("the reason came back changed")
	}
	must(t, db.AppendStory(t.Context(), c.ID, sluicekeep.Event{Text: "nul \x00 and \xff\xfe"}))
	_, err = db.Change(t.Context(), c.ID)
	must(t, err)
	for _, kind := range []string{"a\x00b\xff", "?", "'"} {
		_, err := db.AppendEvent(t.Context(), sluicekeep.Event{Kind: kind})
		must(t, err)
	}
	for _, name := range []string{"", "a\x00", "\xff", strings.Repeat("n", 300), "\u202egrant"} {
		wantKind(t, db.PutGrant(t.Context(), sluicekeep.Grant{ID: name}), sluicekeep.Invalid)
	}
}
