// Package decide says who must agree to a plan before it takes effect.
//
//	d := decide.Decide(decide.Request{Plan: plan, Actor: actor, Now: now})
//	// d.Verdict is allow, approval or refuse, and d.Reasons say why
//
// Decide is pure. It does not check guards (package enforce does, and the
// agent again), and it never takes a claim of identity for granted: the actor
// is what the door itself saw.
package decide

import (
	"time"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/decide/policy"
)

// Verdict is the answer. The zero Verdict is none: nothing may be done.
type Verdict string

// The verdicts, as plans carry them.
const (
	Allow    Verdict = "allow"
	Approval Verdict = "approval"
	Refuse   Verdict = "refuse"
)

// SingleOperator is how an approval is recorded while nobody else is enrolled.
const SingleOperator = "single-operator"

// Act is what is to be done. Zero is taken from the plan's kind.
type Act string

// The acts that are no plan of their own.
const (
	Undo    Act = "undo"    // take back a change
	Confirm Act = "confirm" // make a close permanent
	Restore Act = "restore" // down --restore: give up every close
	Apply   Act = "apply"   // a policy file
	Lower   Act = "lower"   // a mode: enforce to shadow or watch
)

// Request is everything the decision rests on.
type Request struct {
	Act   Act
	Plan  sluicekeep.Plan
	Actor sluicekeep.Actor
	Now   time.Time
	// Confirmed says that the change to undo, or any that a restore gives up,
	// is permanent.
	Confirmed bool
	// Deltas are what an edited policy changes.
	Deltas []policy.Delta
	// Total is the time of all grants and extensions for this asset, port and
	// overlapping source within 7 days, this one included (change.md).
	Total time.Duration
	Env   string
	// People are those enrolled besides the local administrator.
	People []Person
	Rules  []policy.Rule // nil: the defaults
	Words  []Word        // given so far, for exactly this plan
}

// Person is somebody enrolled, with roles: owner, operator, approver, committee.
type Person struct {
	Name  string
	Roles []string
}

// Word is one person's approval.
type Word struct {
	Person string
	Hash   string // of the plan
}

// Decision is a verdict with its reasons.
type Decision struct {
	Verdict  Verdict
	Reasons  []string      // English sentences
	Needs    []policy.Need // what is still missing
	Approval string        // how it is approved, when allowed: single-operator or the names
}
