package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store"
)

func newChange(t *testing.T, db *store.DB, state sluicekeep.State, asked time.Time) *sluicekeep.Change {
	t.Helper()
	id, err := db.NextChangeID(t.Context())
	must(t, err)
	c := &sluicekeep.Change{
		ID: id, State: state, Asked: asked, Actor: sluicekeep.Actor{Name: "local-admin", Via: "cli"},
		Plan: sluicekeep.Plan{Asset: "web", Kind: sluicekeep.Close, Hash: "abc", Grace: sluicekeep.Duration(30 * time.Minute)},
	}
	must(t, db.SaveChange(t.Context(), c))
	return c
}

func testChangeVersion(t *testing.T, db *store.DB) {
	c := newChange(t, db, sluicekeep.Planned, epoch())
	if c.ID != "c-1" || c.Version != 1 {
		t.Fatalf("the first change is %s, version %d", c.ID, c.Version)
	}
	stale := *c
	c.State = sluicekeep.Applying
	must(t, db.SaveChange(t.Context(), c))
	wantKind(t, db.SaveChange(t.Context(), &stale), sluicekeep.Conflict)
	if stale.Version != 1 {
		t.Fatalf("a refused write raised the version to %d", stale.Version)
	}
	again := sluicekeep.Change{ID: c.ID}
	wantKind(t, db.SaveChange(t.Context(), &again), sluicekeep.Conflict)
	wantKind(t, db.SaveChange(t.Context(), &sluicekeep.Change{ID: "c-99", Version: 4}), sluicekeep.NotFound)
	got, err := db.Change(t.Context(), c.ID)
	must(t, err)
	if diff := gocmp.Diff(c, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("change (-want +got):\n%s", diff)
	}
	_, err = db.Change(t.Context(), "c-77")
	wantKind(t, err, sluicekeep.NotFound)
}

func testChangeFilter(t *testing.T, db *store.DB) {
	for i, state := range []sluicekeep.State{
		sluicekeep.Planned, sluicekeep.Watching, sluicekeep.Confirmed, sluicekeep.Undone, sluicekeep.Opened,
	} {
		newChange(t, db, state, epoch().Add(time.Duration(i)*time.Hour))
	}
	for name, tc := range map[string]struct {
		filter store.ChangeFilter
		want   []string
	}{
		"all":    {store.ChangeFilter{}, []string{"c-5", "c-4", "c-3", "c-2", "c-1"}},
		"open":   {store.ChangeFilter{Open: true}, []string{"c-5", "c-2", "c-1"}},
		"states": {store.ChangeFilter{States: []sluicekeep.State{"undone", "planned"}}, []string{"c-4", "c-1"}},
		"since":  {store.ChangeFilter{Since: epoch().Add(3 * time.Hour)}, []string{"c-5", "c-4"}},
		"limit":  {store.ChangeFilter{Limit: 2, Asset: "web"}, []string{"c-5", "c-4"}},
		"asset":  {store.ChangeFilter{Asset: "db"}, nil},
	} {
		got, err := db.Changes(t.Context(), tc.filter)
		must(t, err)
		var ids []string
		for _, c := range got {
			ids = append(ids, c.ID)
		}
		if diff := gocmp.Diff(tc.want, ids); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func testStory(t *testing.T, db *store.DB) {
	c := newChange(t, db, sluicekeep.Watching, epoch())
	var want []sluicekeep.Event
	for i := range 5 {
		e := sluicekeep.Event{At: epoch(), Kind: "story", Change: c.ID, Text: fmt.Sprint("step ", i), Fields: sluicekeep.Fields{"n": fmt.Sprint(i)}}
		must(t, db.AppendStory(t.Context(), c.ID, e))
		want = append(want, e)
	}
	c.Story = []sluicekeep.Event{{Text: "not saved with the change"}}
	must(t, db.SaveChange(t.Context(), c))
	got, err := db.Change(t.Context(), c.ID)
	must(t, err)
	if diff := gocmp.Diff(want, got.Story); diff != "" {
		t.Fatalf("story (-want +got):\n%s", diff)
	}
	wantKind(t, db.AppendStory(t.Context(), "c-9", want[0]), sluicekeep.NotFound)
}

// testChangeRace lets many writers save the same version: one wins.
func testChangeRace(t *testing.T, db *store.DB) {
	c := newChange(t, db, sluicekeep.Watching, epoch())
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			mine := *c
			var said *sluicekeep.Error
			switch err := db.SaveChange(t.Context(), &mine); {
			case err == nil:
				won.Add(1)
			case !errors.As(err, &said) || said.Kind != sluicekeep.Conflict:
				t.Errorf("got %v, want a conflict", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d of 8 stale writes were accepted, want 1", won.Load())
	}
}

func testFencing(t *testing.T, db *store.DB) {
	first, err := db.NextEpoch(t.Context())
	must(t, err)
	for want := range int64(3) {
		n, err := db.NextRevision(t.Context(), first)
		must(t, err)
		if n != want+1 {
			t.Fatalf("revision %d, want %d", n, want+1)
		}
	}
	second, err := db.NextEpoch(t.Context())
	must(t, err)
	if second <= first {
		t.Fatalf("epoch %d after %d", second, first)
	}
	_, err = db.NextRevision(t.Context(), first)
	wantKind(t, err, sluicekeep.Conflict)
	n, err := db.NextRevision(t.Context(), second)
	must(t, err)
	if n != 1 {
		t.Fatalf("the first revision of an epoch is %d, want 1", n)
	}
}

// testNumbers takes ids from many goroutines; none comes twice.
func testNumbers(t *testing.T, db *store.DB) {
	var taken sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				id, err := db.NextChangeID(t.Context())
				if _, twice := taken.LoadOrStore(id, true); err != nil || twice {
					t.Errorf("id %s: twice %v, error %v", id, twice, err)
				}
			}
		})
	}
	wg.Wait()
}

// testTwoProcesses has two handles on one database, as two controllers have:
// what one remembers must never hide what the other wrote.
func testTwoProcesses(t *testing.T, dsn string) {
	a, b := Open(t, dsn), Open(t, dsn)
	p := Profile("web", "::", 80)
	must(t, a.SaveProfiles(t.Context(), epoch(), []sluicekeep.Profile{p}))
	must(t, b.SaveProfiles(t.Context(), epoch().Add(1*time.Second), nil, "web"))
	must(t, a.SaveProfiles(t.Context(), epoch().Add(2*time.Second), []sluicekeep.Profile{p}))
	wantProfiles(t, b, time.Time{}, seen(p, epoch(), epoch().Add(2*time.Second)))
	var wg sync.WaitGroup
	for i, db := range []*store.DB{a, b, a, b} {
		wg.Go(func() {
			for n := range 10 {
				q := p
				q.Owner = fmt.Sprint(i, n)
				if err := db.SaveProfiles(t.Context(), epoch().Add(time.Hour), []sluicekeep.Profile{q}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := a.Profiles(t.Context(), time.Time{}); err != nil || len(got) != 1 {
		t.Fatalf("%d open spans of one endpoint, error %v", len(got), err)
	}
}

// testOpenedAtOnce opens a new database from many sides: each finds the whole
// schema, whoever makes it.
func testOpenedAtOnce(t *testing.T, dsn string) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			db, err := store.Open(t.Context(), dsn)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := db.NextChangeID(t.Context()); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func testOpenAgain(t *testing.T, dsn string) {
	db, err := store.Open(t.Context(), dsn)
	must(t, err)
	p := Profile("web", "::", 80)
	must(t, db.SaveProfiles(t.Context(), epoch(), []sluicekeep.Profile{p}))
	must(t, db.Close())
	db = Open(t, dsn)
	must(t, db.SaveProfiles(t.Context(), epoch().Add(time.Second), []sluicekeep.Profile{p}))
	wantProfiles(t, db, time.Time{}, seen(p, epoch(), epoch().Add(time.Second)))
}
