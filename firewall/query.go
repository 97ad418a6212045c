package firewall

import (
	"slices"

	"github.com/sluicekeep/sluicekeep"
)

// Answer says what happens to new connections of a zone.
type Answer struct {
	// Reach is open when some source of the zone certainly passes; closed or
	// filtered when certainly none does; unknown when the rules depend on more
	// than the packet, or when the zone has no address of the family.
	Reach sluicekeep.Reach
	// All is true when every source of the zone has the same fate.
	All bool
	// Sample is a packet of the zone with that fate; see [Evaluator.Trace].
	Sample Packet
}

// answer is an Answer before it is told of a query: the same diagram answers
// many.
type answer struct {
	reach  sluicekeep.Reach
	all    bool
	sample [levelCount]Value
}

// Predict says what the rules do with new connections from a source to an
// endpoint, with nat followed.
func (e *Evaluator) Predict(q Query, from *Source) Answer {
	var out Answer
	e.guarded(func() { out = e.predict(q, from) })
	if e.err != nil {
		return Answer{}
	}
	return out
}

func (e *Evaluator) predict(q Query, from *Source) Answer {
	path := e.path(q, from.self, true)
	zone := e.towards(q, from)
	k := [2]ref{zone, path}
	a, ok := e.told[k]
	if !ok {
		a = e.judge(e.apply(opMask, zone, path), from, q)
		e.told[k] = a
	}
	if a.sample == ([levelCount]Value{}) {
		return Answer{}
	}
	return Answer{a.reach, a.all, e.packet(q, a.sample)}
}

// towards returns the packets of a source to a query's address.
func (e *Evaluator) towards(q Query, from *Source) ref {
	if q.wild() {
		return from.wild[q.family()]
	}
	return from.set[q.family()]
}

// judge reads the answer off a diagram that is nothing outside of the zone.
func (e *Evaluator) judge(r ref, from *Source, q Query) answer {
	kinds := e.kinds(r)
	a := answer{all: len(kinds) == 1}
	var wanted func(outcome) bool
	switch {
	case kinds[mayAccept]:
		a.reach, wanted = sluicekeep.ReachOpen, func(o outcome) bool { return o == mayAccept }
	case slices.ContainsFunc(keys(kinds), func(o outcome) bool { return o&mayAccept != 0 }):
		wanted = func(o outcome) bool { return o&mayAccept != 0 }
	case len(kinds) == 1 && kinds[mayReject]:
		a.reach, wanted = sluicekeep.ReachClosed, func(o outcome) bool { return o != 0 }
	case len(kinds) > 0:
		a.reach, wanted = sluicekeep.ReachFiltered, func(o outcome) bool { return o != mayReject }
	default:
		return a
	}
	prefer := [levelCount]Value{
		levelIif: from.iif, levelSrc: from.prefer[q.family()], levelSport: Uint(40000),
	}
	prefer[levelDst] = e.preferredDst(q, from)
	a.sample, _ = e.witness(r, func(v uint32) bool { return v != 0 && wanted(v) }, prefer)
	return a
}

// preferredDst returns the address that stands for any local one in samples.
func (e *Evaluator) preferredDst(q Query, from *Source) Value {
	own := e.host.addresses(q.family())
	switch {
	case !q.wild():
		return Addr(q.Dst)
	case from.self || len(own) == 0:
		return loopback(q.family()).To.Prev()
	}
	return Addr(own[0])
}

// kinds returns the outcomes of a diagram, without nothing.
func (s *space) kinds(r ref) map[outcome]bool {
	seen, out := map[ref]bool{}, map[outcome]bool{}
	var visit func(ref)
	visit = func(r ref) {
		switch {
		case r == empty || seen[r]:
		case r.terminal():
			out[r.value()] = true
		default:
			seen[r] = true
			for _, e := range s.nodes[r].edges {
				visit(e.to)
			}
		}
	}
	visit(r)
	return out
}

func keys(m map[outcome]bool) []outcome {
	var out []outcome
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// witness finds values that lead to a wanted terminal, the preferred ones
// where it can. Fields that decide nothing have their preferred value.
func (s *space) witness(r ref, wanted func(uint32) bool, prefer [levelCount]Value) ([levelCount]Value, bool) {
	dead := map[ref]bool{}
	found := prefer
	var visit func(ref) bool
	visit = func(r ref) bool {
		if r.terminal() {
			return wanted(r.value())
		}
		if dead[r] {
			return false
		}
		n := s.nodes[r]
		if visit(n.child(prefer[n.level])) {
			found[n.level] = prefer[n.level]
			return true
		}
		from := Value{}
		for _, e := range n.edges {
			if visit(e.to) {
				found[n.level] = from
				return true
			}
			from = e.upto.Next()
		}
		dead[r] = true
		return false
	}
	ok := visit(r)
	return found, ok
}

// packet makes the packet of a witness.
func (e *Evaluator) packet(q Query, v [levelCount]Value) Packet {
	f := q.family()
	p := Packet{
		Src: v[levelSrc].Addr(f), Dst: q.Dst, Proto: q.Transport.Number(),
		Sport: uint16(v[levelSport].Lo), Dport: q.Number, Iif: v[levelIif].IfaceName(),
	}
	if q.wild() {
		p.Dst = v[levelDst].Addr(f)
	}
	return p
}

// Declared says what all rule stores together declare of new connections from
// other machines, as if nothing rewrote them: open to all, to some (partial),
// closed, or none when no store filters at all.
func (e *Evaluator) Declared(q Query) sluicekeep.Declared {
	if !e.Filters(sluicekeep.FamilyOf(q.Dst)) {
		if len(e.rules.Unreadable) > 0 {
			return sluicekeep.DeclaredUnknown
		}
		return sluicekeep.DeclaredNone
	}
	out := sluicekeep.DeclaredUnknown
	e.guarded(func() {
		path := e.path(q, false, false)
		out = declared(e.kinds(e.apply(opMask, e.towards(q, e.any), path)))
	})
	return out
}

// declared folds the fates of all sources. What is sure of some sources is
// partial, even when others depend on more than the packet.
func declared(kinds map[outcome]bool) sluicekeep.Declared {
	var sure, may, never bool
	for o := range kinds {
		sure = sure || o == mayAccept
		may = may || o != mayAccept && o&mayAccept != 0
		never = never || o&mayAccept == 0
	}
	switch {
	case sure && (may || never):
		return sluicekeep.DeclaredPartial
	case sure:
		return sluicekeep.DeclaredOpen
	case never && !may:
		return sluicekeep.DeclaredClosed
	}
	return sluicekeep.DeclaredUnknown
}

// Filters reports whether any store filters inbound packets of a family on
// their way to the host: by a rule, or by a policy that drops.
func (e *Evaluator) Filters(family sluicekeep.Family) bool {
	n := uint8(4)
	if family == sluicekeep.IPv6 {
		n = 6
	}
	for _, hook := range []Hook{HookIngress, HookPrerouting, HookInput} {
		for _, b := range e.rules.bases(n, hook) {
			if b.Type != "nat" && (b.Policy == Drop || e.decides(b.table, b.Chain)) {
				return true
			}
		}
	}
	return false
}

// decides reports whether a chain has a rule that can decide anything, in
// itself or where it leads.
func (e *Evaluator) decides(table int, ch *Chain) bool {
	return slices.ContainsFunc(e.index.reached(table, ch), func(ch *Chain) bool {
		return slices.ContainsFunc(ch.Rules, func(r Rule) bool {
			return slices.ContainsFunc(r.Action.all(), func(a *Action) bool {
				switch a.Verdict {
				case Continue, Return:
					return false
				case Jump, Goto:
					return e.index[chainName{table, a.Chain}] == nil
				}
				return true
			})
		})
	})
}

// all returns every action that a rule may take.
func (a *Action) all() []*Action {
	if a.Map == nil {
		return []*Action{a}
	}
	out := make([]*Action, len(a.Map.Entries))
	for i := range a.Map.Entries {
		out[i] = &a.Map.Entries[i].Action
	}
	return out
}

// Accepted returns exactly which packets of a source reach an endpoint, as a
// set over (dst, iif, src, sport): lower certainly, upper at most.
func (e *Evaluator) Accepted(q Query, from *Source) (lower, upper Set) {
	lower, upper = e.empty(q.family()), e.empty(q.family())
	e.guarded(func() {
		r := e.apply(opMask, e.towards(q, from), e.path(q, from.self, true))
		lower.r = e.pin(e.rewrite(r, func(o uint32) ref { return truth(o == mayAccept) }, nil))
		upper.r = e.pin(e.rewrite(r, func(o uint32) ref { return truth(o&mayAccept != 0) }, nil))
	})
	return lower, upper
}

// Possible returns the packets of a source to an endpoint, whatever the rules
// do with them; see [Evaluator.Accepted].
func (e *Evaluator) Possible(q Query, from *Source) Set {
	out := e.empty(q.family())
	return out.with(func() ref { return e.towards(q, from) })
}
