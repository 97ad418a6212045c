// Package store keeps what the server must not lose: the history of the ports
// table, who uses which port, changes with their stories, grants, policies,
// vantages, probes, sessions.
//
// One implementation, [DB], runs on SQLite (one machine) and on PostgreSQL
// (several controllers). Consumers take the small interface they need:
//
//	db, err := store.Open(ctx, "/var/lib/sluicekeep/sluicekeep.db")
//	if err != nil { … }
//	defer db.Close()
//	err = db.SaveProfiles(ctx, time.Now(), status.Ports, "web-01")
//	then, err := db.Profiles(ctx, time.Now().Add(-24*time.Hour))
//
// A write that returned nil survives SIGKILL and power loss, as far as the
// disk keeps what it acknowledged. The truth about the host is not here but
// in the agent's journal (package journal): losing this database loses
// history and never a rule.
//
// Not promised: secrets are not encrypted (they are kept as hashes only), and
// text is stored as it came, so strip hostile bytes before saving.
package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// Ports is the history of the ports table, kept as spans: a scan that changes
// nothing writes one timestamp.
type Ports interface {
	// SaveProfiles makes profiles the present state of the assets they name,
	// and of the assets named extra: an endpoint of those that is not in
	// profiles has vanished. FirstSeen and LastSeen of profiles are ignored. A
	// time before the last save counts as the time of the last save.
	SaveProfiles(ctx context.Context, at time.Time, profiles []sluicekeep.Profile, assets ...string) error
	// Profiles returns the ports table as it stood at asOf, sorted by asset,
	// port, transport and address; the zero time means now.
	Profiles(ctx context.Context, asOf time.Time) ([]sluicekeep.Profile, error)
}

// Clients is the memory of who uses which port, and of when we watched.
type Clients interface {
	// SaveUses merges uses by port, source and hour: the earliest First, the
	// latest Last and the larger byte counts win, so a repeat is harmless.
	SaveUses(ctx context.Context, uses []sluicekeep.Use) error
	// Clients folds the uses that end at or after since into clients, sorted
	// by port and source. By is the most exact observer. Zone is left empty:
	// only the caller knows zones.
	Clients(ctx context.Context, since time.Time) ([]sluicekeep.Client, error)
	// Watching records that uses were watched from one time to another;
	// spans that touch, or lie at most WatchGap apart, become one.
	Watching(ctx context.Context, from, to time.Time) error
	// Watched returns for how long we watched since a time.
	Watched(ctx context.Context, since time.Time) (time.Duration, error)
	// WatchedSince returns the start of the latest span of watching, the zero
	// time when nobody ever watched.
	WatchedSince(ctx context.Context) (time.Time, error)
}

// WatchGap is the longest pause that does not interrupt watching: a restart.
const WatchGap = 5 * time.Minute

// Changes keeps changes and their stories.
type Changes interface {
	// NextChangeID returns c-1, c-2, …; an id is never given twice.
	NextChangeID(ctx context.Context) (string, error)
	// SaveChange writes c if its Version is still the stored one (0: new) and
	// raises c.Version; a stale version is a Conflict. c.Story is not written.
	SaveChange(ctx context.Context, c *sluicekeep.Change) error
	// Change returns one change with its story, or NotFound.
	Change(ctx context.Context, id string) (*sluicekeep.Change, error)
	// Changes lists changes without their stories, newest first.
	Changes(ctx context.Context, f ChangeFilter) ([]sluicekeep.Change, error)
	// AppendStory adds an event to the story of a change, or NotFound.
	AppendStory(ctx context.Context, id string, e sluicekeep.Event) error
}

// ChangeFilter selects changes; its zero value selects all.
type ChangeFilter struct {
	States []sluicekeep.State // any of these
	Open   bool               // only those that are not over
	Asset  string
	Since  time.Time // asked at or after
	Limit  int       // 0: no limit
}

// Desired numbers the desired states that go to agents, so that a stale
// server cannot overrule a newer one.
type Desired interface {
	// NextEpoch begins a new reign; numbers of earlier epochs are refused.
	NextEpoch(ctx context.Context) (int64, error)
	// NextRevision returns the next number within epoch, from 1; a Conflict
	// when another server has begun a newer epoch.
	NextRevision(ctx context.Context, epoch int64) (int64, error)
}

// Vantages keeps the places from which we probe, by name.
type Vantages interface {
	PutVantage(ctx context.Context, v sluicekeep.Vantage) error
	DeleteVantage(ctx context.Context, name string) error // NotFound when there is none
	Vantages(ctx context.Context) ([]sluicekeep.Vantage, error)
}

// Probes keeps the latest answer per vantage, address and port, and the
// answers before it that were different.
type Probes interface {
	// SaveProbes records answers; one older than what is known is ignored.
	SaveProbes(ctx context.Context, probes []sluicekeep.Probe) error
	// Probes returns the latest answers given at or after since.
	Probes(ctx context.Context, since time.Time) ([]sluicekeep.Probe, error)
	// ProbeHistory returns the answers of one address and port since a time,
	// newest first: the latest, and each last one before a different answer.
	ProbeHistory(ctx context.Context, a netip.Addr, p sluicekeep.Port, since time.Time) ([]sluicekeep.Probe, error)
}

// Grants keeps grants and the policy documents that own some of them.
type Grants interface {
	// PutGrant writes a grant by its id. A grant of another source is not
	// overwritten: Conflict.
	PutGrant(ctx context.Context, g sluicekeep.Grant) error
	// EndGrant sets the tombstone of a grant: ended, at a time, because.
	EndGrant(ctx context.Context, id string, at time.Time, because string) error
	// Grants lists the grants without a tombstone, or all, sorted by id.
	Grants(ctx context.Context, all bool) ([]sluicekeep.Grant, error)
	// ApplyPolicy stores a document and makes grants the grants it owns, all
	// or nothing: those it owned before and no longer names are ended.
	ApplyPolicy(ctx context.Context, p Policy, grants []sluicekeep.Grant) error
	// Policy returns the document in force, or NotFound.
	Policy(ctx context.Context) (Policy, error)
	// Policies lists the documents that were applied, newest first.
	Policies(ctx context.Context, limit int) ([]Policy, error)
}

// Policy is one applied policy document.
type Policy struct {
	Number  int64     `json:"number"` // 1, 2, … in the order of application
	Text    string    `json:"text"`
	Hash    string    `json:"hash"` // SHA-256 of Text in hex; filled when empty
	Applied time.Time `json:"applied"`
	By      string    `json:"by"`
}

// Events is the log of what happened, in order.
type Events interface {
	// AppendEvent adds an event and returns its number, which grows.
	AppendEvent(ctx context.Context, e sluicekeep.Event) (int64, error)
	// Events lists events in order.
	Events(ctx context.Context, f EventFilter) ([]LoggedEvent, error)
}

// EventFilter selects events; its zero value selects all.
type EventFilter struct {
	After  int64 // numbers above
	Since  time.Time
	Kind   string
	Change string
	Limit  int // 0: no limit
}

// LoggedEvent is an event with its number.
type LoggedEvent struct {
	Number int64 `json:"number"`
	sluicekeep.Event
}

// Tokens keeps hashes of secrets that let somebody in. The secrets themselves
// are never stored.
type Tokens interface {
	// PutToken stores the hash of a secret with what it allows.
	PutToken(ctx context.Context, secret string, t Token) error
	// Token returns what a secret allows at now; NotFound when the secret is
	// unknown or its time is over.
	Token(ctx context.Context, kind, secret string, now time.Time) (Token, error)
	// TakeToken is Token for a secret of one use: only one caller gets it.
	TakeToken(ctx context.Context, kind, secret string, now time.Time) (Token, error)
	// DeleteToken ends a token by its id; unknown ids are not an error.
	DeleteToken(ctx context.Context, id string) error
	// Tokens lists the tokens of a kind, newest first.
	Tokens(ctx context.Context, kind string) ([]Token, error)
}

// Token is what a secret allows.
type Token struct {
	ID      string    `json:"id"`   // names it to people; no secret
	Kind    string    `json:"kind"` // login | session | api …
	Name    string    `json:"name"` // of whom
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`        // zero: never
	Data    []byte    `json:"data,omitempty"` // of the caller
}

// Keys makes repeated requests harmless.
type Keys interface {
	// ClaimKey claims an idempotency key for a request. It returns the reply
	// of an earlier settled claim with true; false means the caller is first
	// and must settle or release. The same key for another request, or one
	// that is still at work, is a Conflict.
	ClaimKey(ctx context.Context, key, request string, now time.Time) (reply []byte, settled bool, err error)
	SettleKey(ctx context.Context, key string, reply []byte) error
	ReleaseKey(ctx context.Context, key string) error
}

// ClaimTimeout is how long a claimed key that nobody settled stays claimed.
const ClaimTimeout = time.Minute

// Pruner forgets what is too old.
type Pruner interface {
	Prune(ctx context.Context, now time.Time, r Retention) (Pruned, error)
}

// Retention says how long things are kept. Zero means the default of
// [DefaultRetention], a negative duration means for ever. Changes, their
// stories, grants and policies are evidence and are never pruned.
type Retention struct {
	Clients time.Duration // uses, and when we watched them
	Spans   time.Duration // ended spans of endpoints
	Probes  time.Duration // answers that were replaced, and answers not renewed
	Events  time.Duration
	Keys    time.Duration // settled idempotency keys
}

// DefaultRetention returns 30 days of clients, two years of spans and events,
// 90 days of probes and a day of idempotency keys.
func DefaultRetention() Retention {
	const day = 24 * time.Hour
	return Retention{Clients: 30 * day, Spans: 730 * day, Probes: 90 * day, Events: 730 * day, Keys: day}
}

// Pruned counts the rows that were forgotten.
type Pruned struct {
	Uses, Spans, Probes, Events, Keys, Tokens int64
}
