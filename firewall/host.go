package firewall

import (
	"math/bits"
	"net/netip"
	"slices"

	"github.com/sluicekeep/sluicekeep"
)

// Host is a machine as its packet filters see it: the rules, and what decides
// where a packet goes.
type Host struct {
	Rules *Ruleset
	// Interfaces with their addresses: they say what is delivered locally,
	// where a source comes in and where a forwarded packet leaves.
	Interfaces []sluicekeep.Interface
	// Local lists further addresses of the host itself.
	Local []netip.Addr
	// Uplinks names the interfaces of the default routes; empty means that it
	// may be any but the loopback.
	Uplinks []string
	// Routes lists further routes of the main table, such as those to tunnels
	// and pods; connected prefixes and default routes need not be in it.
	Routes []Route
	// RouteLocalnet says that packets to 127.0.0.0/8 may come from outside
	// (sysctl net.ipv4.conf.*.route_localnet).
	RouteLocalnet bool
	// NoForward names families in which the host forwards nothing.
	NoForward []sluicekeep.Family
}

// Route says through which interface a prefix is reached, and where its
// packets come in. Of several the longest prefix counts.
type Route struct {
	Prefix netip.Prefix
	Iface  string
}

// familyNumber returns the family number of an address.
func familyNumber(a netip.Addr) uint8 {
	if a.Unmap().Is4() {
		return 4
	}
	return 6
}

// loopback returns the addresses that mean the host itself on every host.
func loopback(family uint8) Range {
	if family == 4 {
		return Prefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8))
	}
	return One(Addr(netip.IPv6Loopback()))
}

// addresses returns the host's own addresses of a family, without loopback.
func (h *Host) addresses(family uint8) []netip.Addr {
	var out []netip.Addr
	add := func(a netip.Addr) {
		if familyNumber(a) == family && !a.IsLoopback() && !a.IsUnspecified() {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	for _, a := range h.Local {
		add(a)
	}
	for _, i := range h.Interfaces {
		for _, p := range i.Prefixes {
			add(p.Addr())
		}
	}
	return out
}

// own returns the host's own addresses as normal ranges, without loopback.
func (h *Host) own(family uint8) []Range {
	var out []Range
	for _, a := range h.addresses(family) {
		out = append(out, One(Addr(a)))
	}
	return normal(out)
}

// redirects returns the addresses to which a redirect may lead, one by one:
// the host's own, or the loopback's for what the host itself sends.
func (h *Host) redirects(family uint8, self bool) []Range {
	var out []Range
	if !self {
		for _, a := range h.addresses(family) {
			out = append(out, One(Addr(a)))
		}
	}
	if len(out) == 0 {
		if out = []Range{One(loopback(family).From)}; family == 4 {
			out = []Range{One(loopback(family).From.Next())}
		}
	}
	return out
}

// local returns every address that is delivered to the host itself.
func (h *Host) local(family uint8) []Range {
	return normal(append(h.own(family), loopback(family)))
}

// notLoopback returns the names of all interfaces but the loopback.
func notLoopback() []Range { return outside([]Range{Iface("lo")}) }

// uplinks returns where packets from and to far addresses pass.
func (h *Host) uplinks() []Range {
	if len(h.Uplinks) == 0 {
		return notLoopback()
	}
	var out []Range
	for _, name := range h.Uplinks {
		out = append(out, Iface(name))
	}
	return normal(out)
}

// link is a directly connected prefix.
type link struct {
	iface  Range
	prefix Range
}

// links returns the connected and routed prefixes of a family, the longest
// first. An interface's prefix of one address connects nobody.
func (h *Host) links(family uint8) []link {
	var out []link
	for _, i := range h.Interfaces {
		for _, p := range i.Prefixes {
			if familyNumber(p.Addr()) == family && !i.Loopback && !p.IsSingleIP() {
				out = append(out, link{Iface(i.Name), Prefix(p)})
			}
		}
	}
	for _, r := range h.Routes {
		if familyNumber(r.Prefix.Addr()) == family && r.Prefix.Bits() > 0 {
			out = append(out, link{Iface(r.Iface), Prefix(r.Prefix)})
		}
	}
	slices.SortStableFunc(out, func(a, b link) int { return a.size().Cmp(b.size()) })
	return out
}

// size returns one less than the number of addresses of a link.
func (l link) size() Value {
	lo, borrow := bits.Sub64(l.prefix.To.Lo, l.prefix.From.Lo, 0)
	return Value{l.prefix.To.Hi - l.prefix.From.Hi - borrow, lo}
}

// leaves returns the interfaces through which packets to dst leave the host.
func (h *Host) leaves(family uint8, dst Range) []Range {
	var out []Range
	var size Value
	for _, l := range h.links(family) {
		switch m := l.prefix.meet(dst); {
		case len(out) > 0 && l.size() != size:
			return normal(out)
		case m == dst:
			out, size = append(out, l.iface), l.size()
		case !m.empty():
			return notLoopback()
		}
	}
	if len(out) == 0 {
		return h.uplinks()
	}
	return normal(out)
}

// Zone describes sources: where new connections come from.
type Zone struct {
	In     []netip.Prefix // empty: every address
	Except []netip.Prefix
	// Iif names the interfaces, nft patterns allowed; empty: where the host's
	// interfaces and uplinks say.
	Iif []string
	// Self is the host itself, through its loopback; the rest is ignored.
	Self bool
}

// NotGlobal returns the prefixes that no machine on the internet has: private,
// shared, link-local, loopback and other special addresses (RFC 6890).
func NotGlobal() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
		"::/8", "fc00::/7", "fe80::/10", "ff00::/8",
	} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// Source is a zone made ready for asking many questions. It belongs to the
// evaluator that made it.
type Source struct {
	self   bool
	set    map[uint8]ref // (iif, src, sport) by family
	wild   map[uint8]ref // the same, to the host's addresses that it reaches
	prefer map[uint8]Value
	iif    Value
}

// From prepares a zone. Source ports are those that clients use, 1024 and up.
func (e *Evaluator) From(z Zone) *Source {
	src := &Source{self: z.Self, set: map[uint8]ref{}, wild: map[uint8]ref{}, prefer: map[uint8]Value{}, iif: Uint(0)}
	for _, family := range []uint8{4, 6} {
		e.guarded(func() {
			src.set[family] = e.pin(e.sources(family, z))
			src.wild[family] = e.pin(e.within(family, src))
		})
		src.prefer[family] = e.preferred(family, z)
	}
	switch {
	case z.Self:
		src.iif = IfaceName("lo")
	case len(z.Iif) > 0:
		src.iif = Iface(z.Iif[0]).From
	case len(e.host.Uplinks) > 0:
		src.iif = IfaceName(e.host.Uplinks[0])
	default:
		src.iif = IfaceName("eth0")
	}
	return src
}

// within returns what a source can send to any address of the host: from the
// outside, loopback addresses are not reached.
func (e *Evaluator) within(family uint8, src *Source) ref {
	dst := e.host.own(family)
	if src.self {
		dst = e.host.local(family)
	}
	if len(dst) == 0 {
		return src.set[family]
	}
	return e.apply(opIntersect, src.set[family], e.ranges(levelDst, dst, full, empty))
}

// preferred returns the address that stands for a zone in samples.
func (e *Evaluator) preferred(family uint8, z Zone) Value {
	if own := e.host.addresses(family); z.Self && len(own) > 0 {
		return Addr(own[0])
	}
	for _, p := range z.In {
		if familyNumber(p.Addr()) == family {
			if p.IsSingleIP() {
				return Addr(p.Addr())
			}
			return Prefix(p).From.Next().Next()
		}
	}
	if family == 4 { // RFC 5737 and RFC 3849: addresses that are nobody's
		return Addr(netip.AddrFrom4([4]byte{198, 51, 100, 7}))
	}
	return Addr(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 7}))
}

// sources returns the set of (iif, src, sport) of a zone.
func (e *Evaluator) sources(family uint8, z Zone) ref {
	ports := e.ranges(levelSport, []Range{Between(1024, 65535)}, full, empty)
	if z.Self {
		var b box
		b[levelIif], b[levelSrc] = []Range{Iface("lo")}, e.host.local(family)
		return e.apply(opIntersect, e.product(&b, full), ports)
	}
	in := []Range{Any()}
	if len(z.In) > 0 {
		in = prefixes(family, z.In)
	}
	set := e.ranges(levelSrc, in, full, empty)
	set = e.apply(opDiff, set, e.ranges(levelSrc, prefixes(family, z.Except), full, empty))
	set = e.apply(opIntersect, set, ports)
	return e.apply(opIntersect, set, e.entry(family, z.Iif))
}

// prefixes returns the prefixes of a family as normal ranges.
func prefixes(family uint8, ps []netip.Prefix) []Range {
	var out []Range
	for _, p := range ps {
		if familyNumber(p.Addr()) == family {
			out = append(out, Prefix(p))
		}
	}
	return normal(out)
}

// entry returns the set of (iif, src) that honest packets from outside have:
// a connected source comes through its interface, a far one through an
// uplink, and nobody outside has an address of ours.
func (e *Evaluator) entry(family uint8, iifs []string) ref {
	out := empty
	if len(iifs) > 0 {
		var names []Range
		for _, name := range iifs {
			names = append(names, Iface(name))
		}
		out = e.ranges(levelIif, normal(names), full, empty)
	} else {
		out = e.routed(family)
	}
	return e.apply(opIntersect, out, e.ranges(levelSrc, e.peers(family), full, empty))
}

// routed returns the set of (iif, src) by the routes: of those that hold a
// source, the longest.
func (e *Evaluator) routed(family uint8) ref {
	if r, ok := e.entries[family]; ok {
		return r
	}
	near, out := empty, empty
	links := e.host.links(family)
	for len(links) > 0 {
		n := slices.IndexFunc(links, func(l link) bool { return l.size() != links[0].size() })
		if n < 0 {
			n = len(links)
		}
		same, covered := empty, empty
		for _, l := range links[:n] {
			var b box
			b[levelIif], b[levelSrc] = []Range{l.iface}, []Range{l.prefix}
			same = e.apply(opUnion, same, e.product(&b, full))
			covered = e.apply(opUnion, covered, e.ranges(levelSrc, b[levelSrc], full, empty))
		}
		out = e.apply(opUnion, out, e.apply(opDiff, same, near))
		near, links = e.apply(opUnion, near, covered), links[n:]
	}
	far := e.apply(opDiff, e.ranges(levelIif, e.host.uplinks(), full, empty), near)
	e.entries[family] = e.pin(e.apply(opUnion, out, far))
	return e.entries[family]
}

// peers returns the addresses that another machine can have.
func (e *Evaluator) peers(family uint8) []Range {
	var out []Range
	for _, t := range e.types[family] {
		if t.kind != typeUnicast {
			out = append(out, t.ranges...)
		}
	}
	if family == 4 {
		// 0.0.0.0/8 is no source, 240.0.0.0/4 is reserved (RFC 1122).
		out = append(out, Between(0, 0xffffff), Range{Uint(0xf0000000), maxValue()})
	} else {
		out = append(out, One(Value{}))
	}
	return outside(normal(slices.Clone(out)))
}
