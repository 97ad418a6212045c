package exposure

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// Fold turns facts into rows, sorted by port, transport, family and address:
// one for each (address, transport, port) that a socket of the host holds, that
// NAT publishes, or that a rule allows by name.
func Fold(f Facts) []sluicekeep.Profile {
	g := newFolder(f)
	g.hold()
	g.publish()
	g.allow()
	out := make([]sluicekeep.Profile, 0, len(g.rows))
	rows := g.sorted()
	for _, r := range rows {
		g.judge(r)
	}
	for _, r := range rows {
		r.Contradictions = g.contradict(r)
		out = append(out, r.Profile)
	}
	return out
}

// row is a profile in the making.
type row struct {
	sluicekeep.Profile
	iface  string                // the socket is bound to this interface
	socket bool                  // a socket of the host itself holds it
	pub    *firewall.Publication // NAT publishes it
	open   *firewall.Opening     // a rule allows it, and that is all
	prior  *sluicekeep.Profile
	// rules is what the rules alone say, by zone.
	rules map[sluicekeep.Zone]firewall.Answer
}

// folder holds the facts and what is derived from them once.
type folder struct {
	Facts
	*rulebook
	rows   map[sluicekeep.Endpoint]*row
	ports  map[sluicekeep.Port][]*row
	prior  map[sluicekeep.Endpoint]*sluicekeep.Profile
	probes map[sluicekeep.Port][]sluicekeep.Probe
	others map[sluicekeep.Port][]*sluicekeep.Listener // listeners in other namespaces
	own    map[netip.Addr]bool
	routed map[sluicekeep.Family]bool // has an address that others can route to
}

func newFolder(f Facts) *folder {
	g := &folder{
		Facts: f, rulebook: newRulebook(f.Host, f.Sources),
		rows: map[sluicekeep.Endpoint]*row{}, ports: map[sluicekeep.Port][]*row{},
		prior:  map[sluicekeep.Endpoint]*sluicekeep.Profile{},
		probes: map[sluicekeep.Port][]sluicekeep.Probe{},
		others: map[sluicekeep.Port][]*sluicekeep.Listener{},
		own:    map[netip.Addr]bool{}, routed: map[sluicekeep.Family]bool{},
	}
	for i := range f.Prior {
		g.prior[f.Prior[i].Endpoint()] = &f.Prior[i]
	}
	for _, p := range f.Probes {
		g.probes[p.Port] = append(g.probes[p.Port], p)
	}
	for _, i := range f.Host.Interfaces {
		for _, p := range i.Prefixes {
			g.addOwn(p.Addr())
		}
	}
	for _, a := range f.Host.Local {
		g.addOwn(a)
	}
	return g
}

func (g *folder) addOwn(a netip.Addr) {
	a = plain(a)
	g.own[a] = true
	if !a.IsLoopback() && !a.IsLinkLocalUnicast() {
		g.routed[sluicekeep.FamilyOf(a)] = true
	}
}

// plain removes the IPv6 dress and the zone of an address.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// mine reports whether a listener is in the host's own namespace.
func (g *folder) mine(l *sluicekeep.Listener) bool {
	return g.Namespace == 0 || l.Namespace == 0 || l.Namespace == g.Namespace
}

// row returns the row of an endpoint and makes it if it is new.
func (g *folder) row(a netip.Addr, p sluicekeep.Port) *row {
	e := sluicekeep.Endpoint{Asset: g.Asset, Address: a, Port: p}
	r, ok := g.rows[e]
	if !ok {
		r = &row{Profile: sluicekeep.Profile{
			Asset: g.Asset, Address: a, Family: sluicekeep.FamilyOf(a), Port: p, Env: g.Env,
		}}
		g.rows[e] = r
		g.ports[p] = append(g.ports[p], r)
	}
	return r
}

// hold makes the rows of sockets. An IPv6 socket that also answers IPv4 makes
// two (ipv6(7), IPV6_V6ONLY).
func (g *folder) hold() {
	for i := range g.Listeners {
		l := &g.Listeners[i]
		if l.Number == 0 || l.Transport.Number() == 0 || !l.Address.IsValid() {
			continue
		}
		if !g.mine(l) {
			g.others[l.Port] = append(g.others[l.Port], l)
			continue
		}
		g.holdAt(plain(l.Address), l)
		if l.Address == netip.IPv6Unspecified() && !l.V6Only {
			g.holdAt(netip.IPv4Unspecified(), l)
		}
	}
}

func (g *folder) holdAt(a netip.Addr, l *sluicekeep.Listener) {
	r := g.row(a, l.Port)
	yes := true
	iface := cmp.Or(l.Interface, l.Address.Zone())
	if !r.socket || r.iface != iface {
		// A second socket that is bound elsewhere makes the row answer everywhere.
		r.iface = map[bool]string{false: iface}[r.socket]
	}
	r.socket, r.Held = true, &yes
	if l.Process != nil && (r.Process == nil || l.Process.PID < r.Process.PID) {
		r.Process = l.Process
	}
}

// sorted returns the rows in their order.
func (g *folder) sorted() []*row {
	out := make([]*row, 0, len(g.rows))
	for _, r := range g.rows {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *row) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Transport, b.Transport),
			cmp.Compare(a.Family, b.Family), a.Address.Compare(b.Address))
	})
	return out
}

// judge fills in everything of a row but its contradictions.
func (g *folder) judge(r *row) {
	r.Declared = g.all.Declared(firewall.Query{Dst: r.Address, Port: r.Port})
	g.predict(r)
	g.reach(r)
	r.Closed = g.Closures[r.Port]
	r.Guarded = slices.ContainsFunc(g.Guards, func(q sluicekeep.Guard) bool { return q.Port != nil && *q.Port == r.Port })
	if g.Clients != nil {
		n := g.Clients[r.Port]
		r.KnownClients = &n
	}
	g.remember(r)
	r.Owner = g.Owner
	if g.Authorise == nil {
		return
	}
	r.Grant, r.Authorised = g.Authorise(r.Profile)
	for i := range g.Grants {
		if r.Grant != nil && g.Grants[i].ID == *r.Grant && g.Grants[i].Owner != "" {
			r.Owner = g.Grants[i].Owner
		}
	}
}

// remember takes over what only the past knows: when the row was first seen,
// and what answered, as long as the same process holds it.
func (g *folder) remember(r *row) {
	r.FirstSeen, r.LastSeen = g.At, g.At
	r.prior = g.prior[r.Endpoint()]
	if r.prior != nil && !r.prior.FirstSeen.IsZero() {
		r.FirstSeen = r.prior.FirstSeen
	}
	if s, ok := g.Services[r.Endpoint()]; ok {
		r.Service = &s
		return
	}
	if p := r.prior; p != nil && p.Process != nil && r.Process != nil && p.Process.Exe == r.Process.Exe {
		r.Service = p.Service
	}
}
