package firewall

import "net/netip"

// Packet is the first packet of a new flow; over TCP a bare SYN. For ICMP the
// source port is the type and the destination port the code.
type Packet struct {
	Src, Dst     netip.Addr
	Proto        uint8 // IP protocol number
	Sport, Dport uint16
	Iif, Oif     string // empty: no interface
}

// view is a packet at one point of its way: the value of each field.
type view struct {
	value  [fieldCount]Value
	family uint8
	// unknown marks fields whose value is not known.
	unknown [fieldCount]bool
}

// matches reports whether a match holds; sure is false when that depends on
// more than is known.
func (v *view) matches(m *Match) (holds, sure bool) {
	holds, sure = false, true
	for _, b := range m.Boxes {
		in, certain := v.in(m.Fields, b)
		if in && certain {
			holds, sure = true, true
			break
		}
		if in {
			sure = false
		}
	}
	if !sure {
		return true, false
	}
	return holds != m.Negate, true
}

// in reports whether the packet lies in a box. If not sure, it may.
func (v *view) in(fields []Field, b []Range) (in, sure bool) {
	if len(b) != len(fields) {
		return false, true
	}
	sure = true
	for i, f := range fields {
		if int(f) >= fieldCount || v.unknown[f] {
			sure = false
			continue
		}
		if !b[i].Has(v.value[f]) {
			return false, true
		}
	}
	return true, sure
}
