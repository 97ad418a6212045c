package firewall

import (
	"net/netip"
	"slices"

	"github.com/sluicekeep/sluicekeep"
)

// Publication is a port that a rule rewrites to another place before any
// input rule is asked: docker's way to publish a container's port.
type Publication struct {
	Family sluicekeep.Family
	Dst    netip.Addr // zero: every address of the host
	Proto  uint8
	Dport  uint16
	Last   uint16     // the last port of the range that starts with Dport
	To     netip.Addr // zero: unchanged, or an address of the host itself
	ToPort uint16     // 0: unchanged
	Rule   string     // text of the rule
	Writer string
}

// Published returns what the nat rules publish to other machines, whatever the
// filter rules then say: those an earlier rule takes from are left out.
func (e *Evaluator) Published() []Publication {
	var out []Publication
	for _, family := range []uint8{4, 6} {
		e.guarded(func() {
			e.ready(family)
			r := e.stageOf(family, HookPrerouting, atNAT, false)
			outside := e.ranges(levelIif, notLoopback(), full, empty)
			r = e.apply(opMask, outside, r)
			e.doors(r, func(d door, rest ref) { out = append(out, e.publish(family, d, rest)...) })
		})
	}
	return out
}

// door is a span of ports of one protocol.
type door struct {
	proto    uint8
	from, to uint16
}

// doors calls f with every door by which a diagram decides, and what it then
// says. A diagram that does not decide by protocol has a door for each.
func (e *Evaluator) doors(r ref, f func(door, ref)) {
	for _, proto := range []uint8{6, 17, 132} {
		sub := e.pick(r, levelProto, []Range{One(Uint(uint64(proto)))})
		from := uint64(0)
		for _, to := range e.portBounds(sub) {
			f(door{proto, uint16(from), uint16(to)}, e.pick(sub, levelDport, []Range{One(Uint(from))}))
			from = to + 1
		}
	}
}

// portBounds returns the last ports of the ranges by which a diagram decides.
func (s *space) portBounds(r ref) []uint64 {
	out := []uint64{65535}
	seen := map[ref]bool{}
	var visit func(ref)
	visit = func(r ref) {
		if s.rank(r) > s.order.rank[levelDport] || seen[r] {
			return
		}
		seen[r] = true
		n := &s.nodes[r]
		for _, e := range n.edges {
			if n.level != levelDport {
				visit(e.to)
			} else if e.upto.Hi == 0 && e.upto.Lo < 65535 {
				out = append(out, e.upto.Lo)
			}
		}
	}
	visit(r)
	slices.Sort(out)
	return slices.Compact(out)
}

// publish returns the publications of one door.
func (e *Evaluator) publish(family uint8, d door, r ref) []Publication {
	_, nats := e.space.leaves(r)
	var out []Publication
	for _, n := range nats {
		nat := e.nats[n]
		p := Publication{
			Family: sluicekeep.IPv4, Proto: d.proto, Dport: max(d.from, 1), Last: d.to,
			Rule: nat.rule.Text, Writer: nat.rule.Writer,
		}
		if family == 6 {
			p.Family = sluicekeep.IPv6
		}
		if p.Writer == "" {
			p.Writer = e.rules.Tables[nat.table].Writer
		}
		if len(nat.To) > 0 {
			p.To = nat.To[0].From.Addr(family)
		}
		if len(nat.ToPort) > 0 {
			p.ToPort = uint16(nat.ToPort[0].From.Lo)
		}
		for _, dst := range e.publishedAt(family, r, n) {
			p.Dst = dst
			out = append(out, p)
		}
	}
	return out
}

// publishedAt returns the single addresses at which a rewriting applies, or
// one zero address when it applies to ranges or to all addresses of the host.
func (e *Evaluator) publishedAt(family uint8, r ref, nat int) []netip.Addr {
	at := e.values(e.rewrite(r, func(o uint32) ref {
		_, nats := e.outs.split(o)
		return truth(slices.Contains(nats, nat))
	}, nil), levelDst)
	if own := e.host.own(family); len(own) > 0 && covers(at, append(own, One(loopback(family).From.Next()))) {
		return []netip.Addr{{}}
	}
	var out []netip.Addr
	for _, r := range at {
		addr := netip.Addr{}
		if r.From == r.To {
			addr = r.From.Addr(family)
		}
		if !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// covers reports whether each of some ranges lies in one of others.
func covers(others, some []Range) bool {
	for _, s := range some {
		if !slices.ContainsFunc(others, func(r Range) bool { return r.meet(s) == s }) {
			return false
		}
	}
	return true
}

// Opening is a port that a rule accepts by name.
type Opening struct {
	Family sluicekeep.Family
	Proto  uint8
	From   uint16 // first port
	To     uint16 // last port, at most 15 more
	Rule   string
	Table  string
	Writer string
}

// widestOpening is how many ports a rule may accept to be meant for each.
const widestOpening = 16

// ExplicitOpens returns the ports that some rule on the way to the host
// accepts by number. Whether a packet gets as far as the rule is another
// question, see [Evaluator.Declared].
func (e *Evaluator) ExplicitOpens() []Opening {
	var out []Opening
	for _, family := range []uint8{4, 6} {
		e.guarded(func() {
			for _, b := range e.rules.bases(family, HookInput) {
				sc := packetScope(family, b.Chain, whole, false)
				for _, ch := range e.index.reached(b.table, b.Chain) {
					out = append(out, e.openings(b.table, ch, sc)...)
				}
			}
		})
	}
	return out
}

// openings returns what the rules of one chain accept by number.
func (e *Evaluator) openings(table int, ch *Chain, sc scope) []Opening {
	var out []Opening
	for i := range ch.Rules {
		r := &ch.Rules[i]
		where, _ := e.matches(r.Matches, sc)
		e.keep(where)
		e.doors(e.apply(opMask, where, e.accepting(r, sc)), func(d door, rest ref) {
			if rest == empty || d.to-d.from >= widestOpening {
				return
			}
			o := Opening{
				Family: sluicekeep.IPv4, Proto: d.proto, From: d.from, To: d.to,
				Rule: r.Text, Table: e.rules.Tables[table].Name, Writer: r.Writer,
			}
			if sc.family == 6 {
				o.Family = sluicekeep.IPv6
			}
			if o.Writer == "" {
				o.Writer = e.rules.Tables[table].Writer
			}
			out = append(out, o)
		})
		e.release(len(e.roots) - 1)
	}
	return out
}

// accepting returns the packets that a rule accepts where it matches.
func (e *Evaluator) accepting(r *Rule, sc scope) ref {
	if r.Action.Map == nil {
		return truth(r.Action.Verdict == Accept)
	}
	some := e.fold(opUnion)
	for i := range r.Action.Map.Entries {
		entry := &r.Action.Map.Entries[i]
		b, any, _ := e.box(r.Action.Map.Fields, entry.Box, sc)
		if any && entry.Action.Verdict == Accept {
			some.add(e.product(&b, full))
		}
	}
	return some.sum(empty)
}
