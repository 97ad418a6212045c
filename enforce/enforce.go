// Package enforce turns a request into a plan, checks the plan against the
// guards, and turns the intents in force into the state a firewall must hold.
//
// Everything here is pure: no root, no clock, no network. The server plans;
// the agent runs the same [CheckGuards] and [Admit] on what the server sends,
// so that a server under an attacker's control can neither cut a guard nor
// open a port without an approved plan.
//
//	plan, err := enforce.NewPlan(req, facts)
//	state := enforce.State(intents)
//
// What it does not promise: that a packet is really dropped. That is the
// driver's read-back and the verify step.
package enforce

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// Limits on what an agent accepts, whoever asks (docs/security.md).
const (
	MaxGrace = 7 * 24 * time.Hour  // a provisional close
	MaxOpen  = 30 * 24 * time.Hour // a temporary opening
)

// DefaultGrace is the time to confirm a close (change.md).
const DefaultGrace = 30 * time.Minute

// Phase is how firmly an intent holds. The zero phase holds nothing.
type Phase string

// The phases.
const (
	Provisional Phase = "provisional" // the kernel ends it at Until
	Permanent   Phase = "permanent"   // confirmed
)

// Intent is one change as the agent shall hold it.
type Intent struct {
	Change   string               `json:"change"`
	Plan     sluicekeep.Plan      `json:"plan"`
	Phase    Phase                `json:"phase"`
	Applied  time.Time            `json:"applied"`            // when it first took effect
	Until    time.Time            `json:"until,omitzero"`     // provisional: the lease's end
	Restored []sluicekeep.Element `json:"restored,omitempty"` // sources that a knock let back in
	// Confirm carries what the confirm was based on.
	Confirm *Confirm `json:"confirm,omitempty"`
}

// Confirm is the evidence for making a close permanent.
type Confirm struct {
	Actor   sluicekeep.Actor `json:"actor"`
	At      time.Time        `json:"at"`
	Console bool             `json:"console,omitempty"` // presence at the machine was stated
}

// Desired is the whole desired state of a host: an intent that is missing is
// to be taken back. Epoch and Revision fence off stale and repeated commands.
type Desired struct {
	Epoch    int64    `json:"epoch"`
	Revision int64    `json:"revision"`
	Intents  []Intent `json:"intents"`
}

// Hash names a plan by everything it will do. Impact, verdict and reasons are
// what people are told about it, and are left out.
func Hash(p sluicekeep.Plan) string {
	p.Hash, p.Verdict, p.Reasons, p.Impact = "", "", nil, sluicekeep.Impact{}
	b, err := json.Marshal(p)
	if err != nil { // only strings, numbers and times inside: cannot happen
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// UndoHash is what an approval for taking back a confirmed close is bound to.
func UndoHash(change, planHash string) string {
	sum := sha256.Sum256([]byte("undo\x00" + change + "\x00" + planHash))
	return hex.EncodeToString(sum[:])
}

// covers reports whether every address of p lies in one of by.
func covers(by []netip.Prefix, p netip.Prefix) bool {
	for _, b := range by {
		if b.Bits() <= p.Bits() && b.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen())
}
