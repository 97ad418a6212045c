package firewall

import (
	"net/netip"
	"slices"

	"github.com/sluicekeep/sluicekeep"
)

// Evaluator answers exactly what a host's rules do with the first packet of a
// new connection. It compiles the rules once; each question is then a walk.
// It is not safe for concurrent use.
type Evaluator struct {
	*compiler
	host   Host
	stages map[stageKey]ref
	// prepared marks families whose stages are all compiled.
	prepared map[uint8]bool
	entries  map[uint8]ref // by which interface a source comes in, by family
	paths    map[pathKey]ref
	told     map[[2]ref]answer
	any      *Source
	err      error
}

type stageKey struct {
	family uint8
	hook   Hook
	part   part
	natted bool
}

// pathKey is a question: where to, and whether from the host itself.
type pathKey struct {
	Query
	self, nat bool
}

// defaultLimit bounds the memory of the diagrams to about 50 MB.
const defaultLimit = 2_000_000

// NewEvaluator makes an evaluator of a host. The host is not to be changed
// meanwhile. See [Evaluator.Err].
func NewEvaluator(h Host) *Evaluator {
	if h.Rules == nil {
		h.Rules = &Ruleset{Unreadable: []string{"no rules were read"}}
	}
	e := newEvaluator(h, askingOrder(), defaultLimit/3)
	if e.err != nil {
		e = newEvaluator(h, nestingOrder(), defaultLimit)
	}
	return e
}

// newEvaluator compiles the rules of a host in an order.
func newEvaluator(h Host, o order, limit int) *Evaluator {
	e := &Evaluator{
		host:     h,
		stages:   map[stageKey]ref{},
		prepared: map[uint8]bool{},
		entries:  map[uint8]ref{},
		paths:    map[pathKey]ref{},
		told:     map[[2]ref]answer{},
	}
	local := map[uint8][]Range{4: h.local(4), 6: h.local(6)}
	e.compiler = newCompiler(newSpace(limit, o), h.Rules, local)
	e.guarded(func() { e.ready(4) })
	e.guarded(func() { e.ready(6) })
	e.any = e.From(Zone{})
	return e
}

// Err returns why some answers are unknown although every store was read: the
// rules are too entangled for the memory allowed.
func (e *Evaluator) Err() error { return e.err }

// guarded runs f and notes when the space is outgrown.
func (e *Evaluator) guarded(f func()) {
	if e.err != nil {
		return
	}
	defer rescue(&e.err)
	f()
}

// Query is an endpoint as a packet sees it. An unspecified address (0.0.0.0 or
// ::) is any address of the host in that family.
type Query struct {
	Dst netip.Addr
	sluicekeep.Port
}

// Ask makes the query of an endpoint.
func Ask(e sluicekeep.Endpoint) Query { return Query{e.Address, e.Port} }

func (q Query) family() uint8 { return familyNumber(q.Dst) }
func (q Query) wild() bool    { return q.Dst.IsUnspecified() }

// ready compiles every stage of a family. Compiling may sweep diagrams that
// nobody keeps, so it is done before a question, never within.
func (e *Evaluator) ready(family uint8) {
	if e.prepared[family] {
		return
	}
	e.prepared[family] = true
	for _, natted := range []bool{false, true} {
		for _, hook := range []Hook{HookPrerouting, HookOutput} {
			for _, p := range []part{beforeNAT, atNAT, afterNAT} {
				e.stageOf(family, hook, p, natted)
			}
		}
		e.stageOf(family, HookPrerouting, looped, natted)
		for _, hook := range []Hook{HookIngress, HookForward, HookInput} {
			e.stageOf(family, hook, whole, natted)
		}
	}
}

// stageOf returns a compiled stage.
func (e *Evaluator) stageOf(family uint8, hook Hook, p part, natted bool) ref {
	k := stageKey{family, hook, p, natted}
	if r, ok := e.stages[k]; ok {
		return r
	}
	if natted && len(e.nats) == 0 {
		return terminal(mayAccept) // nobody rewrites: never asked
	}
	r := e.stage(family, hook, p, natted)
	e.stages[k] = r
	return r
}

// target is where a packet is headed at some point of its way: the ranges
// hold everything it may be, and dst is nil for any local address.
type target struct {
	q     Query
	dst   []Range
	dport []Range
	nat   bool
	self  bool // sent by the host itself
	// input: look at what the input hook says, wherever routing would lead.
	input bool
}

// at walks a stage's diagram to what it says of packets to t: a diagram over
// interfaces, source and source port, and dst where t leaves it open.
func (e *Evaluator) at(r ref, t target) ref {
	r = e.pick(r, levelProto, []Range{One(Uint(uint64(t.q.Transport.Number())))})
	r = e.pick(r, levelDport, t.dport)
	r = e.pick(r, levelCTDport, []Range{One(Uint(uint64(t.q.Number)))})
	if t.dst != nil {
		r = e.pick(r, levelDst, t.dst)
	}
	switch {
	case !t.q.wild():
		return e.pick(r, levelCTDst, []Range{One(Addr(t.q.Dst))})
	case t.dst != nil:
		return e.asDst(r)
	case t.nat:
		return e.diagonal(r)
	}
	return r
}

// pick decides a field of a diagram. Where several values are left, each may
// happen.
func (e *Evaluator) pick(r ref, level uint8, ranges []Range) ref {
	if e.rank(r) > e.order.rank[level] {
		return r
	}
	if n := e.nodes[r]; n.level == level {
		return e.either(&n, ranges)
	}
	return e.rewrite(r, terminal, func(n *node) (ref, bool) {
		if n.level != level {
			return 0, false
		}
		return e.either(n, ranges), true
	})
}

// either returns what may happen at a node whose field has any of the ranges.
func (e *Evaluator) either(n *node, ranges []Range) ref {
	if len(ranges) == 1 && ranges[0].From == ranges[0].To {
		return n.child(ranges[0].From)
	}
	out, from := empty, Value{}
	for _, edge := range n.edges {
		span := Range{from, edge.upto}
		if slices.ContainsFunc(ranges, func(x Range) bool { return !x.meet(span).empty() }) {
			out = e.apply(opAlt, out, edge.to)
		}
		from = edge.upto.Next()
	}
	return out
}

// asDst turns decisions by the original destination into ones by destination.
// No diagram decides anything between the two.
func (e *Evaluator) asDst(r ref) ref {
	return e.rewrite(r, terminal, func(n *node) (ref, bool) {
		if n.level != levelCTDst {
			return 0, false
		}
		return e.make(levelDst, slices.Clone(n.edges)), true
	})
}

// diagonal keeps of a diagram what it says where the destination is the
// original destination.
func (e *Evaluator) diagonal(r ref) ref {
	r = e.rewrite(r, terminal, func(n *node) (ref, bool) {
		if n.level != levelDst {
			return 0, false
		}
		out, from := empty, Value{}
		for _, edge := range n.edges {
			span := e.ranges(levelDst, []Range{{from, edge.upto}}, full, empty)
			to := edge.to
			if n := e.top(to); n.level == levelCTDst {
				to = e.make(levelDst, slices.Clone(n.edges))
			}
			out = e.apply(opAlt, out, e.apply(opMask, span, to))
			from = edge.upto.Next()
		}
		return out, true
	})
	return e.asDst(r)
}

// top returns the first node of a diagram; of a terminal, one of no level.
func (s *space) top(r ref) node {
	if r.terminal() {
		return node{level: levelCount}
	}
	return s.nodes[r]
}

// path returns what happens to packets to q, as outcomes over (dst, iif, src,
// sport). Without nat it is the way the packet would go were it not rewritten.
func (e *Evaluator) path(q Query, self, nat bool) ref {
	k := pathKey{q, self, nat}
	if r, ok := e.paths[k]; ok {
		return r
	}
	e.ready(q.family())
	e.collect()
	t := target{q: q, self: self, input: !nat, dport: []Range{One(Uint(uint64(q.Number)))}}
	if !q.wild() {
		t.dst = []Range{One(Addr(q.Dst))}
	}
	var r ref
	if self {
		r = e.outbound(t, nat)
	} else {
		r = e.inbound(t, nat)
	}
	if len(e.rules.Unreadable) > 0 {
		r = e.rewrite(r, func(o uint32) ref {
			return terminal(e.outs.then(o, mayAccept, mayAccept|mayDrop))
		}, nil)
	}
	e.paths[k] = e.pin(r)
	return r
}

// inbound is the way from outside: prerouting, nat, routing, input or forward.
func (e *Evaluator) inbound(t target, nat bool) ref {
	f := t.q.family()
	before := e.at(e.stageOf(f, HookIngress, whole, false), t)
	before = e.apply(opHook, before, e.at(e.stageOf(f, HookPrerouting, beforeNAT, false), t))
	if nat {
		rewrites := e.at(e.stageOf(f, HookPrerouting, atNAT, false), t)
		before = e.apply(opHook, before, rewrites)
	}
	return e.follow(before, t, e.arrive)
}

// arrive is the way after nat: the rest of prerouting, then routing.
func (e *Evaluator) arrive(t target) ref {
	f := t.q.family()
	pre := e.at(e.stageOf(f, HookPrerouting, afterNAT, t.nat), t)
	if t.input {
		return e.apply(opHook, pre, e.at(e.stageOf(f, HookInput, whole, t.nat), t))
	}
	here, there := e.locality(t)
	end := empty
	if here {
		end = e.notMartian(e.at(e.stageOf(f, HookInput, whole, t.nat), t), t)
	}
	if there {
		end = e.apply(opAlt, end, e.forward(t))
	}
	return e.apply(opHook, pre, end)
}

// forward is what the forward hook does, over every interface that the packet
// may leave through.
func (e *Evaluator) forward(t target) ref {
	f := t.q.family()
	if slices.Contains(e.host.NoForward, sluicekeep.FamilyOf(t.q.Dst)) {
		return terminal(mayDrop)
	}
	r := e.at(e.stageOf(f, HookForward, whole, t.nat), t)
	return e.pick(r, levelOif, e.exits(t))
}

// exits returns the interfaces through which packets to t leave.
func (e *Evaluator) exits(t target) []Range {
	var out []Range
	for _, d := range t.dst {
		out = append(out, e.host.leaves(t.q.family(), d)...)
	}
	return normal(out)
}

// locality says whether packets to t may be for the host itself, and whether
// they may be for others. Of a host whose addresses are not known, every
// address that was asked for is its own, and every other is not.
func (e *Evaluator) locality(t target) (here, there bool) {
	if t.dst == nil {
		return true, false
	}
	f := t.q.family()
	local := e.host.local(f)
	if len(e.host.own(f)) == 0 && !t.nat {
		return true, false
	}
	for _, d := range t.dst {
		inside := false
		for _, l := range local {
			m := l.meet(d)
			here, inside = here || !m.empty(), inside || m == d
		}
		there = there || !inside
	}
	return here, there
}

// notMartian drops what routing drops: packets to loopback addresses that come
// from outside.
func (e *Evaluator) notMartian(r ref, t target) ref {
	f := t.q.family()
	lo := loopback(f)
	if t.dst == nil || f == 4 && e.host.RouteLocalnet {
		return r
	}
	if !slices.ContainsFunc(t.dst, func(d Range) bool { return !d.meet(lo).empty() }) {
		return r
	}
	inside := e.ranges(levelIif, []Range{Iface("lo")}, full, empty)
	dropped := e.apply(opMask, e.apply(opDiff, full, inside), terminal(mayDrop))
	if slices.ContainsFunc(t.dst, func(d Range) bool { return d.meet(lo) != d }) {
		return e.apply(opAlt, r, dropped)
	}
	return e.apply(opAlt, e.apply(opMask, inside, r), dropped)
}

// outbound is the way of the host to itself: output, nat of output, then back
// in through the loopback, where nat is not asked again.
func (e *Evaluator) outbound(t target, nat bool) ref {
	f := t.q.family()
	lo := []Range{Iface("lo")}
	before := e.pick(e.at(e.stageOf(f, HookOutput, beforeNAT, false), t), levelOif, lo)
	if nat {
		rewrites := e.pick(e.at(e.stageOf(f, HookOutput, atNAT, false), t), levelOif, lo)
		before = e.apply(opHook, before, rewrites)
	}
	// Output has no input interface: its diagrams decide nothing by it, so the
	// loopback that the source names later does no harm.
	return e.follow(before, t, func(t target) ref {
		here, there := e.locality(t)
		after, end := e.at(e.stageOf(f, HookOutput, afterNAT, t.nat), t), empty
		if here {
			end = e.apply(opHook, e.pick(after, levelOif, lo), e.looped(t))
		}
		if there {
			end = e.apply(opAlt, end, e.pick(after, levelOif, e.exits(t)))
		}
		return end
	})
}

// looped is the way in through the loopback.
func (e *Evaluator) looped(t target) ref {
	f := t.q.family()
	r := e.at(e.stageOf(f, HookPrerouting, looped, t.nat), t)
	return e.apply(opHook, r, e.at(e.stageOf(f, HookInput, whole, t.nat), t))
}
