package exposure

import (
	"net/netip"
	"path"
	"slices"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// widest is how many ports a NAT rule may publish to make a row for each; of
// wider rules only ports that something else names have rows.
const widest = 256

// publish makes the rows of ports that NAT rewrites to another place.
func (g *folder) publish() {
	for i := range g.published {
		p := &g.published[i]
		tr := transport(p.Proto)
		if tr == "" || p.Dst.IsValid() && len(g.own) > 0 && !g.own[p.Dst] && !p.Dst.IsLoopback() {
			continue // an address that is not the host's: not an endpoint of this asset
		}
		if p.Last-p.Dport >= widest {
			g.publishHeld(p, tr)
			continue
		}
		for n := int(p.Dport); n <= int(p.Last); n++ {
			g.publishOne(p, sluicekeep.Port{Transport: tr, Number: uint16(n)})
		}
	}
	g.proxied()
}

// publishHeld marks the rows there are inside a wide publication.
func (g *folder) publishHeld(p *firewall.Publication, tr sluicekeep.Transport) {
	for _, r := range g.sorted() {
		if r.Transport == tr && r.Family == p.Family && r.Number >= p.Dport && r.Number <= p.Last &&
			!r.Address.IsLoopback() && r.pub == nil {
			r.pub = p
		}
	}
}

func (g *folder) publishOne(p *firewall.Publication, port sluicekeep.Port) {
	a := p.Dst
	if !a.IsValid() {
		a = wildcard(p.Family)
	}
	r := g.row(a, port)
	if r.pub != nil && r.Held != nil && *r.Held {
		return // the first of several targets that answers stands for all
	}
	r.pub = p
	held, process := g.behind(p, port)
	if process != nil {
		r.Process = process
	}
	if !r.socket || held != nil {
		r.Held = held
	}
}

// proxied names the container's process where only docker-proxy holds the
// socket: it has no rule of its own in one of the families.
func (g *folder) proxied() {
	for _, rows := range g.ports {
		for _, r := range rows {
			if r.pub != nil || r.Process == nil || !proxy(r.Process.Exe) {
				continue
			}
			i := slices.IndexFunc(rows, func(o *row) bool { return o.pub != nil && o.Process != nil && !proxy(o.Process.Exe) })
			if i >= 0 {
				r.Process = rows[i].Process
			}
		}
	}
}

// proxy reports whether an executable only hands connections on to containers.
func proxy(exe string) bool {
	switch path.Base(exe) {
	case "docker-proxy", "rootlessport", "slirp4netns", "pasta", "podman-proxy":
		return true
	}
	return false
}

// behind finds who listens where a publication leads. Nil held means that the
// place cannot be seen.
func (g *folder) behind(p *firewall.Publication, port sluicekeep.Port) (held *bool, process *sluicekeep.Process) {
	if p.ToPort != 0 {
		port.Number = p.ToPort
	}
	if g.Unlisted {
		return nil, nil
	}
	yes, no := true, false
	if !p.To.IsValid() || g.own[p.To] || p.To.IsLoopback() {
		for _, r := range g.ports[port] {
			if r.socket && (r.Address == p.To || r.Address.IsUnspecified() && r.Family == p.Family) {
				return &yes, r.Process
			}
		}
		return &no, nil
	}
	for _, l := range g.others[port] {
		if g.answers(l, p.To) {
			return &yes, l.Process
		}
	}
	for _, as := range g.Addresses {
		if slices.Contains(as, p.To) {
			return &no, nil
		}
	}
	return nil, nil // another machine, or a namespace that we may not enter
}

// answers reports whether a listener in another namespace answers at to.
func (g *folder) answers(l *sluicekeep.Listener, to netip.Addr) bool {
	if as, known := g.Addresses[l.Namespace]; known && !slices.Contains(as, to) {
		return false
	}
	a := plain(l.Address)
	dual := l.Address == netip.IPv6Unspecified() && !l.V6Only
	return a == to || dual || a.IsUnspecified() && a.Is4() == to.Is4()
}

// allow makes the rows of ports that a rule accepts by name and nobody holds.
// One rule for both families, or for a few neighbouring ports, is used when
// any of them is held: the rest makes no row.
func (g *folder) allow() {
	for i := range g.openings {
		o := &g.openings[i]
		tr := transport(o.Proto)
		if tr == "" || o.Writer == ours || g.used(o, tr) || len(g.own) > 0 && !g.routed[o.Family] {
			continue
		}
		for n := max(int(o.From), 1); n <= int(o.To); n++ {
			g.allowOne(o, sluicekeep.Port{Transport: tr, Number: uint16(n)})
		}
	}
}

func (g *folder) allowOne(o *firewall.Opening, p sluicekeep.Port) {
	a := wildcard(o.Family)
	switch g.all.Declared(firewall.Query{Dst: a, Port: p}) {
	case sluicekeep.DeclaredOpen, sluicekeep.DeclaredPartial:
	default:
		return // an earlier rule takes it, or it is not for ordinary clients
	}
	r := g.row(a, p)
	if r.open != nil || r.Held != nil || r.pub != nil {
		return
	}
	r.open = o
	if no := false; !g.Unlisted {
		r.Held = &no
	}
}

// used reports whether somebody whom others can reach holds one of the ports.
func (g *folder) used(o *firewall.Opening, tr sluicekeep.Transport) bool {
	for n := int(o.From); n <= int(o.To); n++ {
		rows := g.ports[sluicekeep.Port{Transport: tr, Number: uint16(n)}]
		if slices.ContainsFunc(rows, func(r *row) bool { return (r.socket || r.pub != nil) && !r.Address.IsLoopback() }) {
			return true
		}
	}
	return false
}

// wildcard is any address of a family.
func wildcard(f sluicekeep.Family) netip.Addr {
	if f == sluicekeep.IPv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// transport names an IP protocol number, "" for those without ports.
func transport(proto uint8) sluicekeep.Transport {
	for _, t := range []sluicekeep.Transport{sluicekeep.TCP, sluicekeep.UDP, sluicekeep.SCTP} {
		if t.Number() == proto {
			return t
		}
	}
	return ""
}
