package firewall

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// maxValue is the largest number a field can hold.
func maxValue() Value { return Value{math.MaxUint64, math.MaxUint64} }

// Uint makes a value of a small number: a port, a protocol, a mark.
func Uint(n uint64) Value { return Value{Lo: n} }

// Addr makes a value of an address. A v4-mapped address counts as IPv4.
func Addr(a netip.Addr) Value {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return Value{Lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return Value{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// IfaceName makes the value of one interface name. Longer names than the
// kernel's 15 bytes (IFNAMSIZ) are cut.
func IfaceName(name string) Value {
	var b [16]byte
	copy(b[:15], name)
	return Value{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// Cmp orders values as numbers.
func (v Value) Cmp(w Value) int {
	if c := cmp.Compare(v.Hi, w.Hi); c != 0 {
		return c
	}
	return cmp.Compare(v.Lo, w.Lo)
}

// Next returns v+1; the largest value wraps to zero.
func (v Value) Next() Value {
	lo, carry := bits.Add64(v.Lo, 1, 0)
	return Value{v.Hi + carry, lo}
}

// Prev returns v-1; zero wraps to the largest value.
func (v Value) Prev() Value {
	lo, borrow := bits.Sub64(v.Lo, 1, 0)
	return Value{v.Hi - borrow, lo}
}

// Addr reads the value as an address of a family: 4 or 6.
func (v Value) Addr(family uint8) netip.Addr {
	if family == 4 {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(v.Lo))))
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], v.Hi)
	binary.BigEndian.PutUint64(b[8:], v.Lo)
	return netip.AddrFrom16(b)
}

// IfaceName reads the value as an interface name.
func (v Value) IfaceName() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], v.Hi)
	binary.BigEndian.PutUint64(b[8:], v.Lo)
	name, _, _ := strings.Cut(string(b[:]), "\x00")
	return name
}

// One makes a range of a single value.
func One(v Value) Range { return Range{v, v} }

// Between makes a range of small numbers, both ends included.
func Between(from, to uint64) Range { return Range{Uint(from), Uint(to)} }

// Any is the range of every value.
func Any() Range { return Range{To: maxValue()} }

// Prefix makes the range of a prefix's addresses. It says nothing of the
// family: in a table that sees both, a rule also needs a [FieldFamily] match.
func Prefix(p netip.Prefix) Range {
	a, host := p.Addr(), p.Addr().BitLen()-p.Bits()
	if a.Is4In6() && p.Bits() >= 96 {
		a = a.Unmap()
	}
	ones := Value{Lo: 1<<min(host, 64) - 1}
	if host >= 64 {
		ones = Value{1<<(host-64) - 1, math.MaxUint64}
	}
	v := Addr(a)
	from := Value{v.Hi &^ ones.Hi, v.Lo &^ ones.Lo}
	return Range{from, Value{from.Hi | ones.Hi, from.Lo | ones.Lo}}
}

// Iface makes the range of an interface pattern: a name, or a prefix that
// ends in "*" (nft) or "+" (iptables). A bare "*" or "+" is every name.
func Iface(pattern string) Range {
	stem, wild := pattern, false
	for _, mark := range []string{"*", "+"} {
		if s, found := strings.CutSuffix(pattern, mark); found {
			stem, wild = s, true
		}
	}
	v := IfaceName(stem)
	if !wild {
		return One(v)
	}
	n := min(len(stem), 15)
	ones := Value{math.MaxUint64, math.MaxUint64}
	if n >= 8 {
		ones = Value{0, math.MaxUint64 >> (8 * (n - 8))}
	} else {
		ones.Hi >>= 8 * n
	}
	return Range{v, Value{v.Hi | ones.Hi, v.Lo | ones.Lo}}
}

// Has reports whether v lies in the range.
func (r Range) Has(v Value) bool { return r.From.Cmp(v) <= 0 && v.Cmp(r.To) <= 0 }

// empty reports whether no value lies in the range.
func (r Range) empty() bool { return r.From.Cmp(r.To) > 0 }

// meet returns what two ranges share; the result may be empty.
func (r Range) meet(s Range) Range {
	if r.From.Cmp(s.From) < 0 {
		r.From = s.From
	}
	if r.To.Cmp(s.To) > 0 {
		r.To = s.To
	}
	return r
}

// Matches makes a match of one field with any of the ranges.
func Matches(f Field, ranges ...Range) Match {
	m := Match{Fields: []Field{f}, Boxes: make([][]Range, len(ranges))}
	for i, r := range ranges {
		m.Boxes[i] = []Range{r}
	}
	return m
}

// Not returns the opposite match.
func (m Match) Not() Match {
	m.Negate = !m.Negate
	return m
}

// normal sorts ranges and joins those that touch; empty ranges go.
func normal(ranges []Range) []Range {
	rs := slices.DeleteFunc(slices.Clone(ranges), Range.empty)
	slices.SortFunc(rs, func(a, b Range) int { return a.From.Cmp(b.From) })
	out := rs[:0]
	for _, r := range rs {
		if n := len(out); n > 0 && touches(out[n-1], r) {
			if out[n-1].To.Cmp(r.To) < 0 {
				out[n-1].To = r.To
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// touches reports whether b starts inside a or right after it.
func touches(a, b Range) bool {
	return a.To == maxValue() || b.From.Cmp(a.To.Next()) <= 0
}

// outside returns what normal ranges leave out.
func outside(ranges []Range) []Range {
	var out []Range
	from := Value{}
	for _, r := range ranges {
		if from.Cmp(r.From) < 0 {
			out = append(out, Range{from, r.From.Prev()})
		}
		if r.To == maxValue() {
			return out
		}
		from = r.To.Next()
	}
	return append(out, Range{from, maxValue()})
}
