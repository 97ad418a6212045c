package firewall

import "slices"

// The levels of diagrams: what they decide by.
const (
	levelProto uint8 = iota
	levelDport
	levelCTDport
	levelDst
	levelCTDst
	levelIif
	levelOif
	levelSrc
	levelSport
	levelCount
)

// order is the order in which diagrams decide by their levels.
type order struct {
	levels [levelCount]uint8 // from first to last
	rank   [levelCount]uint8 // the place of each level
}

func newOrder(levels [levelCount]uint8) order {
	o := order{levels: levels}
	for i, level := range levels {
		o.rank[level] = uint8(i)
	}
	return o
}

// askingOrder puts first what a query gives, so that asking is walking; an
// endpoint's answer is a diagram over the rest.
func askingOrder() order {
	return newOrder([levelCount]uint8{
		levelProto, levelDport, levelCTDport, levelDst, levelCTDst, levelIif, levelOif, levelSrc, levelSport,
	})
}

// nestingOrder puts addresses first. Prefixes nest where port ranges cross, so
// that diagrams of entangled rules stay several times smaller.
func nestingOrder() order {
	return newOrder([levelCount]uint8{
		levelProto, levelIif, levelOif, levelSrc, levelDst, levelCTDst, levelDport, levelCTDport, levelSport,
	})
}

// Numbers of netfilter that a new flow's first packet has.
const (
	stateNew     = 1  // conntrack: new
	stateInvalid = 8  // conntrack: what a chain before conntrack sees
	flagsSYN     = 2  // TCP: a bare SYN
	statusDNAT   = 32 // conntrack: IPS_DST_NAT
	typeUnicast  = 1  // RTN_UNICAST
	typeLocal    = 2  // RTN_LOCAL
	typeBcast    = 3  // RTN_BROADCAST
	typeMcast    = 5  // RTN_MULTICAST

	priorityConntrack = -200 // NF_IP_PRI_CONNTRACK
	priorityDNAT      = -100 // NF_IP_PRI_NAT_DST, where all nat chains run
)

// scope is what is known of the packets that a chain sees: the first packets
// of new flows, of one family, at one hook.
type scope struct {
	family uint8 // 4 or 6
	hook   Hook
	natted bool // the destination was rewritten
	early  bool // before conntrack
}

// packetScope makes the scope in which a chain sees packets, when run as part
// of its hook.
func packetScope(family uint8, chain *Chain, p part, natted bool) scope {
	early := chain.Priority <= priorityConntrack && p != looped &&
		(chain.Hook == HookPrerouting || chain.Hook == HookOutput)
	return scope{family, chain.Hook, natted, early || chain.Hook == HookIngress}
}

// constant returns the value of a field that all packets of the scope share.
func (c scope) constant(f Field) (Value, bool) {
	switch f {
	case FieldFamily:
		return Uint(uint64(c.family)), true
	case FieldState:
		if c.early {
			return Uint(stateInvalid), true
		}
		return Uint(stateNew), true
	case FieldTCPFlags:
		return Uint(flagsSYN), true
	case FieldReverse:
		return Uint(1), true
	case FieldCTStatus:
		if c.natted {
			return Uint(statusDNAT), true
		}
		return Value{}, true
	case FieldIif:
		return Value{}, c.hook == HookOutput || c.hook == HookPostrouting
	case FieldOif:
		return Value{}, c.hook != HookForward && c.hook != HookOutput && c.hook != HookPostrouting
	}
	return Value{}, false
}

// level returns the level that decides a field, if one does. Where nothing was
// rewritten, the original destination is the destination.
func (c scope) level(f Field) (uint8, bool) {
	switch f {
	case FieldSrc, FieldSrcType:
		return levelSrc, true
	case FieldDst, FieldDstType:
		return levelDst, true
	case FieldProto:
		return levelProto, true
	case FieldSport:
		return levelSport, true
	case FieldDport:
		return levelDport, true
	case FieldIif:
		return levelIif, true
	case FieldOif:
		return levelOif, true
	case FieldCTDst:
		if c.natted {
			return levelCTDst, true
		}
		return levelDst, true
	case FieldCTDport:
		if c.natted {
			return levelCTDport, true
		}
		return levelDport, true
	}
	return 0, false
}

// fibType is the type of an address, as the kernel's routes classify it.
type fibType struct {
	kind   uint64
	ranges []Range
}

// fibTypes classifies all addresses of a family, given the local ones.
func fibTypes(family uint8, local []Range) []fibType {
	mcast := []Range{Between(0xe0000000, 0xefffffff)}
	bcast := []Range{Between(0xffffffff, 0xffffffff), Between(0, 0)}
	if family == 6 {
		mcast = []Range{{Value{Hi: 0xff << 56}, maxValue()}}
		bcast = nil
	}
	rest := outside(normal(slices.Concat(local, mcast, bcast)))
	return []fibType{{typeUnicast, rest}, {typeLocal, local}, {typeBcast, bcast}, {typeMcast, mcast}}
}

// addressesOf returns the addresses whose type lies in r.
func addressesOf(types []fibType, r Range) []Range {
	var out []Range
	for _, t := range types {
		if r.Has(Uint(t.kind)) {
			out = append(out, t.ranges...)
		}
	}
	return normal(out)
}

// box is one AND of conditions: the ranges each level may have.
type box [levelCount][]Range

// narrow adds a condition to a box and reports whether anything is left.
func (b *box) narrow(level uint8, ranges []Range) bool {
	if b[level] == nil {
		b[level] = ranges
		return len(ranges) > 0
	}
	var both []Range
	for _, x := range b[level] {
		for _, y := range ranges {
			if m := x.meet(y); !m.empty() {
				both = append(both, m)
			}
		}
	}
	b[level] = normal(both)
	return len(both) > 0
}
