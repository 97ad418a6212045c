// Package storetest is the conformance suite of package store: what every
// database behind it must do, stated once.
//
//	func TestSQLite(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "s.db") })
//	}
//
// Not promised: durability under SIGKILL or a full disk, which depend on the
// database and are tested where it is opened.
package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/store"
)

// Run runs the whole suite. Place returns the data source name of a new and
// empty database for each test.
func Run(t *testing.T, place func(t *testing.T) string) {
	for name, test := range map[string]func(*testing.T, *store.DB){
		"profiles/history":    testHistory,
		"profiles/scope":      testScope,
		"profiles/model":      testProfileModel,
		"profiles/clock":      testClockStep,
		"profiles/as of":      testRoundTrip,
		"uses/merge":          testUses,
		"uses/payload hours":  testPayloadHours,
		"uses/any order":      testUsesInAnyOrder,
		"watch/union":         testWatchingUnion,
		"watch/spans":         testWatching,
		"changes/version":     testChangeVersion,
		"changes/filter":      testChangeFilter,
		"changes/story":       testStory,
		"changes/racing":      testChangeRace,
		"desired/fencing":     testFencing,
		"vantages":            testVantages,
		"probes":              testProbes,
		"grants/owners":       testGrants,
		"grants/policy":       testPolicy,
		"events":              testEvents,
		"tokens":              testTokens,
		"sessions":            testSessions,
		"idempotency keys":    testKeys,
		"prune":               testPrune,
		"hostile text":        testHostileText,
		"numbers/many racers": testNumbers,
	} {
		t.Run(name, func(t *testing.T) { test(t, Open(t, place(t))) })
	}
	t.Run("two processes", func(t *testing.T) { testTwoProcesses(t, place(t)) })
	t.Run("opened at once", func(t *testing.T) { testOpenedAtOnce(t, place(t)) })
	t.Run("open again", func(t *testing.T) { testOpenAgain(t, place(t)) })
}

// Open opens a database for the length of a test.
func Open(t testing.TB, dsn string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), dsn)
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return db
}

// epoch is when the stories of the tests begin.
func epoch() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC) }

// must stops the test when err is set.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind checks the kind of an error.
func wantKind(t testing.TB, err error, kind sluicekeep.Kind) {
	t.Helper()
	var said *sluicekeep.Error
	if !errors.As(err, &said) || said.Kind != kind {
		t.Fatalf("got error %v, want one of kind %s", err, kind)
	}
}
