package enforce

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluicekeep/sluicekeep"
)

// HostFacts is what guards are made from: who manages this host, and how.
type HostFacts struct {
	Management []sluicekeep.Port // ports that sshd listens on
	Operators  []netip.Addr      // peers of established management sessions
	Channel    []sluicekeep.Port // our own ports that are reachable off loopback
	Policy     []sluicekeep.Guard
}

// Guards lists what no plan may cut (change.md, Guards). Loopback, ND, ICMP
// and the replies to the host's own DNS, NTP and DHCP are kept by the constant
// rules of every driver; they are listed so that people can read them.
func Guards(f HostFacts) []sluicekeep.Guard {
	guards := []sluicekeep.Guard{
		{Name: "loopback", Why: "the host talks to itself"},
		{Name: "replies", Why: "answers to the host's own DNS, NTP and DHCP"},
		{Name: "icmp", Why: "neighbour discovery and ICMP errors"},
	}
	for _, n := range []uint16{68, 546} {
		guards = append(guards, sluicekeep.Guard{
			Name: "dhcp", Port: &sluicekeep.Port{Transport: sluicekeep.UDP, Number: n},
			Why: "the host gets its address here",
		})
	}
	for _, p := range f.Management {
		g := sluicekeep.Guard{Name: "operator", Port: &p, Why: "management sessions of the operator"}
		for _, a := range f.Operators {
			if !a.IsLoopback() {
				g.Sources = append(g.Sources, host(a))
			}
		}
		slices.SortFunc(g.Sources, comparePrefix)
		g.Sources = slices.Compact(g.Sources)
		guards = append(guards, g)
	}
	for _, p := range f.Channel {
		guards = append(guards, sluicekeep.Guard{Name: "channel", Port: &p, Why: "our own control channel"})
	}
	return append(guards, f.Policy...)
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// touching returns the guards that name one of ports.
func touching(guards []sluicekeep.Guard, ports []sluicekeep.Port) []sluicekeep.Guard {
	var out []sluicekeep.Guard
	for _, g := range guards {
		if g.Port != nil && slices.Contains(ports, *g.Port) {
			out = append(out, g)
		}
	}
	return out
}

// CheckGuards refuses a close that would cut a guard. It trusts only the
// plan's steps: what they keep, the kernel keeps.
func CheckGuards(p sluicekeep.Plan, guards []sluicekeep.Guard) error {
	if p.Kind != sluicekeep.Close {
		return nil
	}
	for _, g := range touching(guards, p.Ports) {
		if err := checkGuard(p, g); err != nil {
			return err
		}
	}
	return nil
}

func checkGuard(p sluicekeep.Plan, g sluicekeep.Guard) error {
	kept := keptSources(p, *g.Port)
	switch {
	case g.Name == "dhcp":
		return sluicekeep.Errorf(sluicekeep.Refused, "leave this port as it is",
			"guard %s: closing %s would cost the host its address", g.Name, g.Port)
	case g.Name == "channel" && len(kept) == 0, g.Name == "operator" && len(kept) == 0:
		return sluicekeep.Errorf(sluicekeep.Refused, "name who keeps access with --keep CIDR",
			"guard %s: closing %s would lock out %s", g.Name, g.Port, whom(g))
	}
	for _, s := range g.Sources {
		if !covers(kept, s) {
			return sluicekeep.Errorf(sluicekeep.Refused, fmt.Sprintf("keep it with --keep %s", s),
				"guard %s: closing %s would cut %s", g.Name, g.Port, s)
		}
	}
	return nil
}

func whom(g sluicekeep.Guard) string {
	if len(g.Sources) == 0 {
		return "everyone who manages this host"
	}
	names := make([]string, len(g.Sources))
	for i, s := range g.Sources {
		names[i] = s.String()
	}
	return strings.Join(names, ", ")
}

func keptSources(p sluicekeep.Plan, port sluicekeep.Port) []netip.Prefix {
	var kept []netip.Prefix
	for _, s := range p.Steps {
		if (s.Do == DoKeep || s.Do == DoGuard) && s.Port == port {
			kept = append(kept, s.Source)
		}
	}
	return kept
}

// TouchesManagement reports whether p closes a port that a guard of
// management sessions names; confirming it needs a fresh login.
func TouchesManagement(p sluicekeep.Plan, guards []sluicekeep.Guard) (sluicekeep.Port, bool) {
	for _, g := range touching(guards, p.Ports) {
		if g.Name == "operator" && p.Kind == sluicekeep.Close {
			return *g.Port, true
		}
	}
	return sluicekeep.Port{}, false
}
