// Package exposure folds what was seen of a host into one profile per
// endpoint: what is declared, held and reachable, and where the three
// contradict each other.
//
//	rows := exposure.Fold(facts)
//	fmt.Println(exposure.Summarise(rows))
//
// Fold is pure: the same facts give the same rows, in the same order. What no
// fact tells stays unknown. A contradiction that rests on the rules alone says
// that it was not probed; package exposure never claims that a packet passed
// when no probe saw it.
package exposure

import (
	"net/netip"
	"time"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// Facts is everything known of one asset at one moment. Missing facts make
// unknown answers.
type Facts struct {
	Asset string
	Env   string // of the asset, from the policy
	Owner string // of the asset, where no grant names one
	At    time.Time

	// Listeners of every network namespace that could be read. Unlisted says
	// that they could not be read at all: then nothing is known to be held.
	Listeners []sluicekeep.Listener
	Unlisted  bool
	// Namespace is the inode of the host's own network namespace; zero means
	// that all listeners are the host's.
	Namespace uint64
	// Addresses are those of the other namespaces, by inode. A namespace that
	// is missing here may have any address.
	Addresses map[uint64][]netip.Addr

	// Host is what the evaluator needs: rules of all stores, interfaces,
	// uplinks. Nil Rules mean that no rule was read.
	Host firewall.Host
	// Sources are the zones as seen from the host. Nothing is predicted for a
	// zone that is missing.
	Sources map[sluicekeep.Zone]firewall.Zone
	Probes  []sluicekeep.Probe

	// Grants, the live and the ended ones. Authorise judges a row: the grant
	// that covers it, and whether it is authorised (nil: no policy to judge by).
	Grants    []sluicekeep.Grant
	Authorise func(sluicekeep.Profile) (grant *string, authorised *bool)
	Guards    []sluicekeep.Guard

	Closures map[sluicekeep.Port]string // the change that closes a port now
	Clients  map[sluicekeep.Port]int    // known clients; nil: nobody watched
	Services map[sluicekeep.Endpoint]sluicekeep.Service
	Prior    []sluicekeep.Profile // the rows of the last fold
}

// Summarise counts rows. A port that a change of ours closes is decided: it
// counts neither as unauthorised nor as unreviewed.
func Summarise(rows []sluicekeep.Profile) sluicekeep.Summary {
	s := sluicekeep.Summary{Ports: len(rows)}
	unauthorised, policy := 0, len(rows) > 0
	for i := range rows {
		r := &rows[i]
		s.Contradictions += len(r.Contradictions)
		if openFrom(r, sluicekeep.ZoneInternet) {
			s.Internet++
		}
		switch {
		case r.Authorised == nil:
			policy = false
			if r.Closed == "" {
				s.Unreviewed++
			}
		case !*r.Authorised && r.Closed == "":
			unauthorised++
		}
	}
	if policy {
		s.Unauthorised = &unauthorised
	}
	return s
}

// openFrom reports whether a row is reachable from a zone, or predicted to be
// where nobody probed.
func openFrom(r *sluicekeep.Profile, z sluicekeep.Zone) bool {
	if probed := *r.Reachable.Of(z); probed != sluicekeep.ReachUnknown {
		return probed == sluicekeep.ReachOpen
	}
	return *r.Predicted.Of(z) == sluicekeep.ReachOpen
}
