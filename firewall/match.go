package firewall

import "strconv"

// Conntrack states of [FieldState]: one bit each, of which a packet has one.
const (
	StateNew uint64 = 1 << iota
	StateEstablished
	StateRelated
	StateInvalid
	StateUntracked
)

// Protocol returns the number of an IP protocol by its name in the IANA list
// or in /etc/protocols, or by the number itself.
func Protocol(name string) (uint8, bool) {
	switch name {
	case "icmp":
		return 1, true
	case "igmp":
		return 2, true
	case "ipencap", "ipv4":
		return 4, true
	case "tcp":
		return 6, true
	case "udp":
		return 17, true
	case "dccp":
		return 33, true
	case "ipv6":
		return 41, true
	case "gre":
		return 47, true
	case "esp", "ipv6-crypt":
		return 50, true
	case "ah", "ipv6-auth":
		return 51, true
	case "icmpv6", "ipv6-icmp":
		return 58, true
	case "ospf", "ospfigp":
		return 89, true
	case "pim":
		return 103, true
	case "comp", "ipcomp":
		return 108, true
	case "vrrp":
		return 112, true
	case "sctp":
		return 132, true
	case "udplite":
		return 136, true
	}
	n, err := strconv.ParseUint(name, 0, 8)
	return uint8(n), err == nil
}

// MatchBits makes a match of a small field of the given width in bits: those
// bits of the mask that are set must be the wanted ones.
func MatchBits(f Field, width int, mask, want uint64) Match {
	m := Match{Fields: []Field{f}}
	for v := uint64(0); v < 1<<min(width, 16); v++ {
		if v&mask != want {
			continue
		}
		if n := len(m.Boxes); n > 0 && m.Boxes[n-1][0].To == Uint(v-1) {
			m.Boxes[n-1][0].To = Uint(v)
			continue
		}
		m.Boxes = append(m.Boxes, []Range{One(Uint(v))})
	}
	return m
}

// MatchMark makes a match of the packet mark under a mask. A partial mask is
// not a few ranges; but a mark is either zero or unknown to whoever evaluates
// rules, so such a match only says what holds for zero.
func MatchMark(mask, want uint32) Match {
	switch {
	case want&^mask != 0:
		return Never()
	case mask == 0xffffffff:
		return Matches(FieldMark, One(Uint(uint64(want))))
	case mask == 0:
		return Matches(FieldMark, Any())
	case want == 0:
		return Matches(FieldMark, One(Value{}))
	}
	return Matches(FieldMark, Between(1, 0xffffffff))
}

// Never makes a match that no packet fulfils.
func Never() Match { return Match{Fields: []Field{FieldProto}} }
