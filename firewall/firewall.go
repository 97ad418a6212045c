// Package firewall is the vendor-neutral picture of packet filters: what rule
// stores say ([Ruleset]), what that means exactly (set algebra over packets),
// and the seam through which a target is made equal to a desired state
// ([Driver]).
//
// An [Evaluator] answers what the rules of a host do with new connections:
//
//	e := firewall.NewEvaluator(firewall.Host{Rules: rules, Interfaces: ifaces, Uplinks: []string{"eth0"}})
//	internet := e.From(firewall.Zone{Except: firewall.NotGlobal()})
//	answer := e.Predict(firewall.Ask(endpoint), internet) // open, closed, filtered or unknown
//	path := e.Trace(answer.Sample)                        // hook by hook, to the rule that decides
//
// It speaks of the first packet of a flow (a bare SYN over TCP) without a
// packet mark, whose source passes the reverse-path check. What depends on
// more than such a packet (rates, owners, user space) gives a lower and an
// upper bound and the answer unknown, never a guess. It knows nothing of
// bridges, tunnels, policy routing or offloaded flows.
//
// Drivers live in sub-packages, own the parser of their format, never import
// each other and pass the conformance suite of firewalltest.
package firewall

import (
	"context"
	"net/netip"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// Element is one entry of the desired state.
type Element struct {
	sluicekeep.Port
	// Source limits the entry to a prefix; the zero prefix means everyone in
	// both families.
	Source netip.Prefix
	// Until is when the kernel itself drops the entry; zero is permanent.
	Until time.Time
}

// State is what our own table shall hold, and nothing else. Absence is
// removal. Order has no meaning.
type State struct {
	Closed  []Element // new connections to the port are shut
	Cut     []Element // live connections die too (TCP reset); always for UDP
	Drain   []Element // until then, live connections of a cut port go on
	Granted []Element // sources that pass although the port is closed or cut
}

// Lease says who ends a provisional state when every process of ours is dead.
type Lease string

// Who holds a lease.
const (
	LeaseNone   Lease = "none"
	LeaseAgent  Lease = "agent"
	LeaseDevice Lease = "device"
	LeaseKernel Lease = "kernel"
)

// Capability is what a target can do.
type Capability struct {
	Lease    Lease
	Cut      bool // ends live connections
	Knocks   bool // tells who knocked
	Families []sluicekeep.Family
}

// Driver makes a target equal to a desired state. Apply twice is apply once;
// it never touches a rule we did not write.
type Driver interface {
	// Capability says what this target can do.
	Capability() Capability
	// Read returns what our own table holds now. Err is NotFound when there
	// is no table of ours.
	Read(ctx context.Context) (State, error)
	// Check reports whether Apply would be accepted, and changes nothing.
	Check(ctx context.Context, want State) error
	// Apply makes the target equal to want in one transaction, reads it back
	// and compares.
	Apply(ctx context.Context, want State) error
	// Remove deletes every trace of ours; others' rules stay byte-identical.
	Remove(ctx context.Context) error
}
