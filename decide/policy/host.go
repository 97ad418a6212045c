package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
	"github.com/sluicekeep/sluicekeep/selector"
)

// Host is a policy as it applies to one machine. Its methods do not change it.
type Host struct {
	policy *Policy
	assets []Asset
	named  map[string]Zone
	areas  []area
	grants []sluicekeep.Grant
	now    time.Time
}

// area is a prefix with the zone it belongs to.
type area struct {
	netip.Prefix
	zone sluicekeep.Zone
	rank int // of equal prefixes the highest wins
}

// For resolves the policy for a machine. A nil policy has the default zones
// and no grants.
func (p *Policy) For(m Machine) *Host {
	h := &Host{policy: p, named: map[string]Zone{}}
	if p != nil {
		for _, z := range p.Zones {
			h.named[z.Name] = z
		}
		for _, a := range p.Assets {
			if a.covers(m) {
				h.assets = append(h.assets, a)
			}
		}
	}
	h.areas = areas(p, m)
	if p != nil {
		for i := range p.Grants {
			if p.Grants[i].covers(m, h.assets) {
				h.grants = append(h.grants, h.resolve(&p.Grants[i]))
			}
		}
	}
	return h
}

// With adds the grants that people approved, and sets the clock by which
// grants end. Of equal ids the file's grant counts.
func (h *Host) With(approved []sluicekeep.Grant, now time.Time) *Host {
	out := *h
	out.now, out.grants = now, slices.Clone(h.grants)
	for _, g := range approved {
		if !slices.ContainsFunc(h.grants, func(f sluicekeep.Grant) bool { return f.ID == g.ID }) {
			out.grants = append(out.grants, g)
		}
	}
	return &out
}

// covers reports whether the asset is this machine.
func (a *Asset) covers(m Machine) bool {
	if a.Match == nil {
		return strings.EqualFold(a.Name, m.Name)
	}
	return a.Match.Eval(m.holds)
}

// covers reports whether the grant is for this machine.
func (g *Grant) covers(m Machine, assets []Asset) bool {
	if g.match != nil {
		return g.match.Eval(m.holds)
	}
	return slices.ContainsFunc(assets, func(a Asset) bool { return a.Name == g.On })
}

// holds decides a term of labels; name is the machine's own.
func (m Machine) holds(t selector.Term) bool {
	value := m.Labels[t.Key]
	if t.Key == "name" || t.Key == "" {
		value = m.Name
	}
	if t.Op == selector.Has {
		return value != "" && strings.Contains(strings.ToLower(value), strings.ToLower(t.Value))
	}
	return strings.EqualFold(value, t.Value)
}

// Env is the environment of the machine.
func (h *Host) Env() string { return h.first(func(a Asset) string { return a.Env }) }

// Owner is who owns the machine.
func (h *Host) Owner() string { return h.first(func(a Asset) string { return a.Owner }) }

func (h *Host) first(of func(Asset) string) string {
	for _, a := range h.assets {
		if s := of(a); s != "" {
			return s
		}
	}
	return ""
}

// Mode is how firmly the machine is held to its grants. Where two assets of
// the policy disagree, the milder mode counts: nothing drops by accident.
func (h *Host) Mode() Mode {
	modes := []Mode{}
	for _, a := range h.assets {
		if a.Mode != "" {
			modes = append(modes, a.Mode)
		}
	}
	if len(modes) == 0 {
		return Watch
	}
	return slices.MinFunc(modes, func(a, b Mode) int { return cmp.Compare(a.firmness(), b.firmness()) })
}

func (m Mode) firmness() int { return slices.Index([]Mode{Watch, Shadow, Enforce}, m) }

// Known reports whether any asset of the policy is this machine. If none is,
// no grant can apply: most likely the policy names it otherwise.
func (h *Host) Known() bool { return len(h.assets) > 0 }

// Grants returns the grants for the machine, of the file and approved ones,
// the ended ones too.
func (h *Host) Grants() []sluicekeep.Grant { return slices.Clone(h.grants) }

// Guards returns the guards of the policy, one a port.
func (h *Host) Guards() []sluicekeep.Guard {
	if h.policy == nil {
		return nil
	}
	var out []sluicekeep.Guard
	for _, g := range h.policy.Guards {
		for _, p := range g.Ports {
			out = append(out, sluicekeep.Guard{
				Name: "policy", Port: &p, Sources: h.prefixes(g.From), Why: "guard of the policy, " + g.At.String(),
			})
		}
	}
	return out
}

// resolve makes the grant of the root vocabulary.
func (h *Host) resolve(g *Grant) sluicekeep.Grant {
	return sluicekeep.Grant{
		ID: g.ID, Asset: g.On, Ports: g.Ports, From: h.prefixes(g.From), Because: g.Because, Owner: g.Owner,
		Dependence: g.Dependence, HeldBy: g.HeldBy, Until: g.Until, ReviewBy: g.ReviewBy, OnEnd: g.OnEnd,
		Source: "policy",
	}
}

// prefixes resolves sources; empty means everyone.
func (h *Host) prefixes(from []Source) []netip.Prefix {
	var b netipx.IPSetBuilder
	for _, s := range from {
		switch z, ok := h.named[s.Zone]; {
		case s.Zone == "":
			b.AddPrefix(s.Prefix)
		case ok:
			for _, p := range z.In {
				b.AddPrefix(p)
			}
		case s.Zone == string(sluicekeep.ZoneInternet):
			return nil
		default:
			b.AddSet(h.set(sluicekeep.Zone(s.Zone)))
		}
	}
	return setOf(&b).Prefixes()
}

// setOf ends a builder. Its only errors are invalid prefixes, and all of ours
// were parsed.
func setOf(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		return &netipx.IPSet{}
	}
	return s
}

// Authorise finds the grant that covers a row. Without a policy, a row that no
// grant covers is unreviewed: authorised is nil. What only the host itself
// reaches needs no grant.
func (h *Host) Authorise(p sluicekeep.Profile) (grant *string, authorised *bool) {
	yes, no := true, false
	unsure := ""
	for i := range h.grants {
		g := &h.grants[i]
		if !Live(g, h.now) {
			continue
		}
		switch covered, sure := covers(g, &p); {
		case covered && sure:
			return &g.ID, &yes
		case covered && unsure == "":
			unsure = g.ID
		}
	}
	switch {
	case unsure != "": // held by somebody we may not see
		return &unsure, nil
	case h.policy == nil:
		return nil, nil
	case p.Address.Unmap().IsLoopback():
		return nil, &yes
	}
	return nil, &no
}

// Live reports whether a grant counts at a moment.
func Live(g *sluicekeep.Grant, now time.Time) bool {
	return g.Tombstone == "" && (g.Until.IsZero() || now.Before(g.Until))
}

// covers reports whether a grant is for the port of a row and its holder; it
// is not sure when the holder is not known.
func covers(g *sluicekeep.Grant, p *sluicekeep.Profile) (covered, sure bool) {
	port := slices.ContainsFunc(g.Ports, func(q sluicekeep.Port) bool {
		return q.Transport == p.Transport && (q.Number == p.Number || q.Number == 0 && g.HeldBy != nil)
	})
	dynamic := port && !slices.Contains(g.Ports, p.Port)
	switch {
	case !port || g.HeldBy == nil:
		return port, true
	case p.Process == nil:
		return !dynamic, p.Held != nil && !*p.Held
	}
	return HeldBy(g.HeldBy, p.Process)
}

// HeldBy reports whether a process is the one an identity names. It is not
// sure when only the package is named, which the process does not tell.
func HeldBy(id *sluicekeep.Identity, p *sluicekeep.Process) (is, sure bool) {
	sure = id.Package == ""
	for _, pair := range [][2]string{
		{strings.TrimSuffix(id.Unit, ".service"), strings.TrimSuffix(p.Unit, ".service")},
		{id.Image, p.Image}, {id.Exe, p.Exe},
	} {
		switch {
		case pair[0] == "" || pair[0] == pair[1]:
		default:
			return false, true
		}
	}
	return true, sure
}

// Zone says where an address is, as seen from the machine: the zone of the
// most specific prefix that holds it.
func (h *Host) Zone(a netip.Addr) sluicekeep.Zone {
	a = a.Unmap().WithZone("")
	for i := len(h.areas) - 1; i >= 0; i-- {
		if h.areas[i].Contains(a) {
			return h.areas[i].zone
		}
	}
	return sluicekeep.ZoneInternet
}

// Sources describes the zones for [firewall.Evaluator.From].
func (h *Host) Sources() map[sluicekeep.Zone]firewall.Zone {
	var inside netipx.IPSetBuilder
	out := map[sluicekeep.Zone]firewall.Zone{sluicekeep.ZoneHost: {Self: true}}
	for _, z := range []sluicekeep.Zone{sluicekeep.ZoneSegment, sluicekeep.ZoneOrganisation} {
		set := h.set(z)
		inside.AddSet(set)
		if in := set.Prefixes(); len(in) > 0 {
			out[z] = firewall.Zone{In: in}
		}
	}
	inside.AddSet(h.set(sluicekeep.ZoneHost))
	for _, p := range nowhere() {
		inside.AddPrefix(p)
	}
	out[sluicekeep.ZoneInternet] = firewall.Zone{Except: setOf(&inside).Prefixes()}
	return out
}

// set returns all addresses of a zone.
func (h *Host) set(z sluicekeep.Zone) *netipx.IPSet {
	var b netipx.IPSetBuilder
	if z == sluicekeep.ZoneInternet {
		b.AddSet(everyone())
	}
	for _, a := range h.areas { // wider first: the more specific has the last word
		if a.zone == z {
			b.AddPrefix(a.Prefix)
		} else {
			b.RemovePrefix(a.Prefix)
		}
	}
	return setOf(&b)
}

// everyone is every address of both families.
func everyone() *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddPrefix(netip.MustParsePrefix("0.0.0.0/0"))
	b.AddPrefix(netip.MustParsePrefix("::/0"))
	return setOf(&b)
}

// nowhere lists prefixes from which no new connection can come (RFC 6890,
// RFC 5771, RFC 4291): they belong to no zone.
func nowhere() []netip.Prefix {
	return prefixList("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/127", "ff00::/8", "fe80::/10",
		"169.254.0.0/16")
}

func prefixList(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// areas lists every prefix with its zone, wider ones first: RFC 1918, RFC 6598
// and unique local addresses are the organisation's, connected prefixes the
// segment's, unless the policy says otherwise.
func areas(p *Policy, m Machine) []area {
	var out []area
	add := func(z sluicekeep.Zone, rank int, prefixes ...netip.Prefix) {
		for _, p := range prefixes {
			out = append(out, area{p.Masked(), z, rank})
		}
	}
	add(sluicekeep.ZoneOrganisation, 0,
		prefixList("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")...)
	add(sluicekeep.ZoneSegment, 0, prefixList("169.254.0.0/16", "fe80::/10")...)
	add(sluicekeep.ZoneHost, 3, prefixList("127.0.0.0/8", "::1/128")...)
	for _, i := range m.Interfaces {
		for _, p := range i.Prefixes {
			own := p.Addr().Unmap().WithZone("")
			add(sluicekeep.ZoneHost, 3, netip.PrefixFrom(own, own.BitLen()))
			switch {
			case p.Bits() == 0 || p.IsSingleIP() || i.Loopback:
			case inner(i.Name):
				add(sluicekeep.ZoneHost, 1, p)
			default:
				add(sluicekeep.ZoneSegment, 1, p)
			}
		}
	}
	if p != nil {
		for _, z := range p.Zones {
			add(z.As, 2, z.In...)
		}
	}
	slices.SortStableFunc(out, func(a, b area) int {
		return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), cmp.Compare(a.rank, b.rank))
	})
	return out
}

// inner reports whether an interface leads to containers or virtual machines
// of the host itself: they are no neighbours.
func inner(name string) bool {
	for _, p := range []string{"docker", "br-", "cni", "virbr", "lxcbr", "lxdbr", "podman", "cali", "flannel"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
