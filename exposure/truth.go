package exposure

import (
	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// predict says what rules, NAT and the bound address imply, for each zone.
func (g *folder) predict(r *row) {
	r.rules = make(map[sluicekeep.Zone]firewall.Answer, 4)
	r.Basis = make(map[sluicekeep.Zone]sluicekeep.Basis, 4)
	for _, z := range sluicekeep.Zones() {
		a := g.all.ask(r, z)
		r.rules[z] = a
		reach := a.Reach
		switch {
		case z != sluicekeep.ZoneHost && g.beyond(r, z):
			reach = sluicekeep.ReachClosed
		case reach == sluicekeep.ReachOpen && r.Held != nil && !*r.Held:
			reach = sluicekeep.ReachClosed // let in, and nobody is there
		}
		*r.Predicted.Of(z) = reach
		if reach != sluicekeep.ReachUnknown {
			r.Basis[z] = sluicekeep.Basis{By: "rules", At: g.At}
		}
	}
}

// beyond reports whether a row's address cannot be routed to from a zone:
// loopback from anywhere else, link-local from beyond the segment, a wildcard
// where the host has no routable address of the family.
func (g *folder) beyond(r *row, z sluicekeep.Zone) bool {
	if r.Address.IsLoopback() || r.iface == "lo" {
		return !g.Host.RouteLocalnet || r.Family == sluicekeep.IPv6 || r.pub == nil
	}
	if z == sluicekeep.ZoneSegment {
		return false
	}
	if r.Address.IsUnspecified() {
		return len(g.own) > 0 && !g.routed[r.Family]
	}
	return r.Address.IsLinkLocalUnicast()
}

// reach folds the probes: of each vantage and address the latest counts, and
// of these the most open.
func (g *folder) reach(r *row) {
	type seat struct {
		vantage string
		address string
	}
	latest := map[seat]sluicekeep.Probe{}
	for _, p := range g.probes[r.Port] {
		if !g.probed(r, &p) {
			continue
		}
		k := seat{p.Vantage, p.Address.String()}
		if old, ok := latest[k]; !ok || !p.At.Before(old.At) {
			latest[k] = p
		}
	}
	best := map[sluicekeep.Zone]sluicekeep.Probe{}
	for _, p := range latest {
		if b, ok := best[p.Zone]; !ok || better(&p, &b) {
			best[p.Zone] = p
		}
	}
	for z, p := range best {
		*r.Reachable.Of(z) = p.Reach
		r.Basis[z] = sluicekeep.Basis{By: "probe", Vantage: p.Vantage, At: p.At}
	}
}

// better orders probes of one zone: open before refused before silence, then
// the later one, then by name.
func better(a, b *sluicekeep.Probe) bool {
	if x, y := openness(a.Reach), openness(b.Reach); x != y {
		return x > y
	}
	if !a.At.Equal(b.At) {
		return a.At.After(b.At)
	}
	if a.Vantage != b.Vantage {
		return a.Vantage < b.Vantage
	}
	return a.Address.Less(b.Address)
}

func openness(r sluicekeep.Reach) int {
	switch r {
	case sluicekeep.ReachOpen:
		return 3
	case sluicekeep.ReachClosed:
		return 2
	case sluicekeep.ReachFiltered:
		return 1
	}
	return 0
}

// probed reports whether a probe dialled the row: its address, or for a
// wildcard any address of the family that has no row of its own.
func (g *folder) probed(r *row, p *sluicekeep.Probe) bool {
	if p.Reach == sluicekeep.ReachUnknown || !known(p.Zone) {
		return false
	}
	a := plain(p.Address)
	if !r.Address.IsUnspecified() {
		return a == r.Address
	}
	_, other := g.rows[sluicekeep.Endpoint{Asset: g.Asset, Address: a, Port: r.Port}]
	return !other && sluicekeep.FamilyOf(a) == r.Family
}

// known reports whether z is one of the four zones.
func known(z sluicekeep.Zone) bool {
	for _, k := range sluicekeep.Zones() {
		if z == k {
			return true
		}
	}
	return false
}

// outside lists the zones beyond the host, the outermost first.
func outside() []sluicekeep.Zone {
	return []sluicekeep.Zone{sluicekeep.ZoneInternet, sluicekeep.ZoneOrganisation, sluicekeep.ZoneSegment}
}

// shut reports whether an answer is no for certain.
func shut(r sluicekeep.Reach) bool {
	return r == sluicekeep.ReachClosed || r == sluicekeep.ReachFiltered
}
