package firewall

import (
	"net/netip"

	"github.com/sluicekeep/sluicekeep"
)

// Space is where sets of packets live. Sets of one space may be combined; the
// space is not safe for concurrent use.
type Space struct {
	*compiler
	err error
}

// NewSpace makes a space in which the given addresses are local. Sets take at
// most limit intervals of 24 bytes; 0 is a limit that takes about 50 MB.
func NewSpace(limit int, local ...netip.Addr) *Space {
	if limit <= 0 {
		limit = defaultLimit
	}
	h := Host{Local: local}
	return &Space{compiler: newCompiler(newSpace(limit, nestingOrder()), &Ruleset{},
		map[uint8][]Range{4: h.local(4), 6: h.local(6)})}
}

// Err returns why sets made since are empty: the space was outgrown.
func (s *Space) Err() error { return s.err }

// Set is an exact set of first packets of new flows, of one family. Its zero
// value is not usable; sets live as long as their space.
type Set struct {
	s      *space
	err    *error
	family uint8
	r      ref
}

// Packets returns the packets of a family for which every match holds.
// Matches on what no packet of a new flow varies in (state, marks) are judged
// for new flows without a mark.
func (s *Space) Packets(family sluicekeep.Family, matches ...Match) Set {
	n := uint8(4)
	if family == sluicekeep.IPv6 {
		n = 6
	}
	out := Set{s.space, &s.err, n, empty}
	return out.with(func() ref {
		r, _ := s.matches(matches, scope{family: n, hook: HookForward})
		return s.apply(opIntersect, r, s.universe(n))
	})
}

// universe returns the packets of a family that can exist.
func (c *compiler) universe(family uint8) ref {
	var b box
	most := maxValue()
	if family == 4 {
		most = Uint(0xffffffff)
	}
	b[levelSrc], b[levelDst] = []Range{{To: most}}, []Range{{To: most}}
	b[levelProto] = []Range{Between(0, 255)}
	b[levelSport], b[levelDport] = []Range{Between(0, 65535)}, []Range{Between(0, 65535)}
	return c.product(&b, full)
}

// empty returns the empty set of a family.
func (e *Evaluator) empty(family uint8) Set { return Set{e.space, &e.err, family, empty} }

// with makes a set of the same space, or an empty one if that outgrows it.
func (a Set) with(f func() ref) (out Set) {
	out = a
	out.r = empty
	if *a.err != nil {
		return out
	}
	defer rescue(a.err)
	out.r = a.s.pin(f())
	return out
}

// Union returns the packets of a or b.
func (a Set) Union(b Set) Set { return a.with(func() ref { return a.s.apply(opUnion, a.r, b.r) }) }

// Intersect returns the packets of both.
func (a Set) Intersect(b Set) Set {
	return a.with(func() ref { return a.s.apply(opIntersect, a.r, b.r) })
}

// Diff returns the packets of a that are not in b.
func (a Set) Diff(b Set) Set { return a.with(func() ref { return a.s.apply(opDiff, a.r, b.r) }) }

// Equal reports whether both hold the same packets; it takes no time.
func (a Set) Equal(b Set) bool { return a.r == b.r && a.family == b.family }

// IsEmpty reports whether there is no packet.
func (a Set) IsEmpty() bool { return a.r == empty }

// Has reports whether a packet is in the set.
func (a Set) Has(p Packet) bool {
	if familyNumber(p.Dst) != a.family {
		return false
	}
	at := [levelCount]Value{
		levelProto: Uint(uint64(p.Proto)), levelDport: Uint(uint64(p.Dport)), levelCTDport: Uint(uint64(p.Dport)),
		levelDst: Addr(p.Dst), levelCTDst: Addr(p.Dst), levelIif: IfaceName(p.Iif), levelOif: IfaceName(p.Oif),
		levelSrc: Addr(p.Src), levelSport: Uint(uint64(p.Sport)),
	}
	r := a.r
	for !r.terminal() {
		n := &a.s.nodes[r]
		r = n.child(at[n.level])
	}
	return r == full
}

// Witness returns a packet of the set, and false when there is none.
func (a Set) Witness() (Packet, bool) {
	prefer := [levelCount]Value{levelProto: Uint(6), levelSport: Uint(40000)}
	v, ok := a.s.witness(a.r, func(v uint32) bool { return v != 0 }, prefer)
	return packetOf(v, a.family), ok
}

// packetOf makes a packet of its values.
func packetOf(v [levelCount]Value, family uint8) Packet {
	return Packet{
		Src: v[levelSrc].Addr(family), Dst: v[levelDst].Addr(family), Proto: uint8(v[levelProto].Lo),
		Sport: uint16(v[levelSport].Lo), Dport: uint16(v[levelDport].Lo),
		Iif: v[levelIif].IfaceName(), Oif: v[levelOif].IfaceName(),
	}
}

// Sources returns the addresses that some packet of the set comes from.
func (a Set) Sources() []Range { return a.s.values(a.r, levelSrc) }

// values returns the values that a field has in some packet of a set.
func (s *space) values(set ref, level uint8) []Range {
	var out []Range
	seen := map[ref]bool{}
	var visit func(ref)
	visit = func(r ref) {
		if r == empty || seen[r] {
			return
		}
		if s.rank(r) > s.order.rank[level] {
			out = append(out, Any())
			return
		}
		seen[r] = true
		from, here := Value{}, s.nodes[r].level == level
		for _, e := range s.nodes[r].edges {
			switch {
			case here && e.to != empty:
				out = append(out, Range{from, e.upto})
			case !here:
				visit(e.to)
			}
			from = e.upto.Next()
		}
	}
	visit(set)
	return normal(out)
}
