package firewall

import (
	"cmp"
	"slices"
)

// compiler turns chains into diagrams whose terminals are outcomes.
type compiler struct {
	*space
	rules  *Ruleset
	marked bool                // some rule sets packet marks, so marks are unknown
	types  map[uint8][]fibType // by family
	index  chainIndex
	chains map[chainKey]ref
	nats   []rewriting
	busy   map[chainKey]bool // chains being compiled: a jump back is hostile input
}

type chainKey struct {
	table int
	chain string
	scope
}

// rewriting is what one rule does to the destination.
type rewriting struct {
	*Action
	rule  *Rule
	table int
}

// newCompiler makes a compiler. Local are the addresses of the host itself, by
// family, as normal ranges.
func newCompiler(s *space, rules *Ruleset, local map[uint8][]Range) *compiler {
	c := &compiler{
		space:  s,
		rules:  rules,
		index:  indexChains(rules),
		chains: map[chainKey]ref{},
		busy:   map[chainKey]bool{},
		types:  map[uint8][]fibType{4: fibTypes(4, local[4]), 6: fibTypes(6, local[6])},
	}
	c.marked = marks(rules)
	return c
}

// marks reports whether any rule changes packet marks. If none does, a packet
// from the wire has mark 0.
func marks(rules *Ruleset) bool {
	for _, t := range rules.Tables {
		for _, ch := range t.Chains {
			if slices.ContainsFunc(ch.Rules, func(r Rule) bool { return r.Action.Marks }) {
				return true
			}
		}
	}
	return false
}

// sees reports whether a table's chains see packets of a family.
func (t *Table) sees(family uint8) bool {
	switch t.Family {
	case "inet":
		return true
	case "ip":
		return family == 4
	case "ip6":
		return family == 6
	case "netdev":
		return true
	}
	return false
}

// base is a base chain with its table.
type base struct {
	table int
	*Chain
}

// bases returns the base chains of a hook that see a family, in the order in
// which the kernel calls them. Chains of equal priority keep their order.
func (r *Ruleset) bases(family uint8, hook Hook) []base {
	var out []base
	for i := range r.Tables {
		if !r.Tables[i].sees(family) {
			continue
		}
		for j := range r.Tables[i].Chains {
			if ch := &r.Tables[i].Chains[j]; ch.Hook == hook {
				out = append(out, base{i, ch})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b base) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// chainName names a chain of a rule set.
type chainName struct {
	table int
	chain string
}

// chainIndex finds chains by name; of equal names the first counts.
type chainIndex map[chainName]*Chain

func indexChains(rules *Ruleset) chainIndex {
	x := chainIndex{}
	for i := range rules.Tables {
		for j := range rules.Tables[i].Chains {
			ch := &rules.Tables[i].Chains[j]
			if n := (chainName{i, ch.Name}); x[n] == nil {
				x[n] = ch
			}
		}
	}
	return x
}

// reached returns a chain and all to which it leads, each once.
func (x chainIndex) reached(table int, ch *Chain) []*Chain {
	out, seen := []*Chain{ch}, map[*Chain]bool{ch: true}
	for i := 0; i < len(out); i++ {
		for k := range out[i].Rules {
			for _, a := range out[i].Rules[k].Action.all() {
				next := x[chainName{table, a.Chain}]
				if (a.Verdict == Jump || a.Verdict == Goto) && next != nil && !seen[next] {
					seen[next] = true
					out = append(out, next)
				}
			}
		}
	}
	return out
}

// part is a stretch of the base chains of one hook.
//
// The kernel runs all nat chains of a hook from one place, at priority -100,
// and their own priorities only order them among themselves: on Linux 6.18 a
// nat chain at -190 rewrites after a filter chain at -150 has looked. An accept
// in one does not keep the next from rewriting. A packet that comes back through
// the loopback is still new to every chain, but conntrack has seen it, so that
// even raw chains know its state, and no nat chain is asked again.
type part uint8

const (
	whole     part = iota
	beforeNAT      // filter chains that still see the original destination
	atNAT          // nat chains: they all run at one place, whatever their priority
	afterNAT       // filter chains that see the rewritten destination
	looped         // filter chains, for packets that conntrack saw on their way out
)

// has reports whether a base chain belongs to a part.
func (p part) has(ch *Chain) bool {
	switch p {
	case beforeNAT:
		return ch.Type != "nat" && ch.Priority <= priorityDNAT
	case atNAT:
		return ch.Type == "nat"
	case looped:
		return ch.Type != "nat"
	case afterNAT:
		return ch.Type != "nat" && ch.Priority > priorityDNAT
	}
	return true
}

// stage compiles the base chains of a part of a hook into one pinned diagram.
// An accept is final for its own base chain only; the first drop is final.
func (c *compiler) stage(family uint8, hook Hook, p part, natted bool) ref {
	all := c.fold(opHook)
	for _, b := range c.rules.bases(family, hook) {
		if p.has(b.Chain) {
			all.add(c.base(b, packetScope(family, b.Chain, p, natted)))
		}
	}
	return c.pin(all.sum(terminal(mayAccept)))
}

// base compiles a base chain; what it does not decide falls to its policy.
func (c *compiler) base(b base, sc scope) ref {
	policy := mayAccept
	if b.Policy == Drop {
		policy = mayDrop
	}
	r := c.chain(chainKey{b.table, b.Name, sc})
	r = c.rewrite(r, func(o uint32) ref {
		return terminal(c.outs.then(c.outs.then(o, mayContinue, policy), mayReturn, policy))
	}, nil)
	if b.Hook == HookIngress {
		// Whether the packet comes through the chain's device is not told.
		r = c.apply(opAlt, r, terminal(mayAccept))
	}
	return r
}

// chain compiles a chain and remembers it.
func (c *compiler) chain(k chainKey) ref {
	if r, ok := c.chains[k]; ok {
		return r
	}
	ch := c.index[chainName{k.table, k.chain}]
	if ch == nil || c.busy[k] {
		return terminal(mayContinue | mayDecide)
	}
	c.busy[k] = true
	all := c.fold(opSeq)
	for i := range ch.Rules {
		if r := c.rule(&ch.Rules[i], k); r != terminal(mayContinue) {
			all.add(r)
		}
	}
	delete(c.busy, k)
	r := c.pin(all.sum(terminal(mayContinue)))
	c.chains[k] = r
	return r
}

// rule compiles one rule: its action where it matches, continue elsewhere.
func (c *compiler) rule(r *Rule, at chainKey) ref {
	height := len(c.roots)
	act := c.action(&r.Action, r, at)
	if act == terminal(mayContinue) {
		return act
	}
	c.keep(act)
	where, maybe := c.matches(r.Matches, at.scope)
	if maybe || len(r.Unknown) > 0 {
		act = c.apply(opAlt, act, terminal(mayContinue))
	}
	act = c.apply(opApply, where, act)
	c.release(height)
	return act
}

// matches compiles an AND of matches. Maybe means that packets inside the
// result need not match.
func (c *compiler) matches(ms []Match, sc scope) (where ref, maybe bool) {
	height := len(c.roots)
	where = full
	for i := range ms {
		c.keep(where)
		m, unsure := c.match(&ms[i], sc)
		where, maybe = c.apply(opIntersect, where, m), maybe || unsure
	}
	c.release(height)
	return where, maybe
}

// match compiles one match.
func (c *compiler) match(m *Match, sc scope) (where ref, maybe bool) {
	if len(m.Fields) == 1 {
		if where, ok := c.plain(m, sc); ok {
			return where, false
		}
	}
	some := c.fold(opUnion)
	for _, ranges := range m.Boxes {
		b, any, unsure := c.box(m.Fields, ranges, sc)
		maybe = maybe || unsure
		if any {
			some.add(c.product(&b, full))
		}
	}
	where = some.sum(empty)
	switch {
	case m.Negate && maybe:
		return full, true
	case m.Negate:
		return c.apply(opDiff, full, where), false
	}
	return where, maybe
}

// plain compiles the common match of one field that has a level.
func (c *compiler) plain(m *Match, sc scope) (ref, bool) {
	f := m.Fields[0]
	level, ok := sc.level(f)
	if _, constant := sc.constant(f); constant || !ok {
		return 0, false
	}
	var rs []Range
	for _, b := range m.Boxes {
		if len(b) == 1 {
			rs = append(rs, c.atLevel(f, b[0], sc)...)
		}
	}
	if m.Negate {
		return c.ranges(level, normal(rs), empty, full), true
	}
	return c.ranges(level, normal(rs), full, empty), true
}

// atLevel translates a field's range to the ranges of its level.
func (c *compiler) atLevel(f Field, r Range, sc scope) []Range {
	if f == FieldDstType || f == FieldSrcType {
		return addressesOf(c.types[sc.family], r)
	}
	return []Range{r}
}

// box translates one box of a match. It is unsure when a field is neither
// known nor tested by diagrams: then the box is the most that may match.
func (c *compiler) box(fields []Field, ranges []Range, sc scope) (b box, some, unsure bool) {
	if len(ranges) != len(fields) {
		return b, false, false
	}
	for i, f := range fields {
		r := ranges[i]
		if v, ok := c.known(f, sc); ok {
			if !r.Has(v) {
				return b, false, false
			}
			continue
		}
		level, ok := sc.level(f)
		if !ok {
			unsure = true
			continue
		}
		if !b.narrow(level, normal(c.atLevel(f, r, sc))) {
			return b, false, false
		}
	}
	return b, true, unsure
}

// known returns a field's value where all packets share it.
func (c *compiler) known(f Field, sc scope) (Value, bool) {
	if f == FieldMark {
		return Value{}, !c.marked
	}
	return sc.constant(f)
}

// product makes the diagram that is in inside a box, and empty outside.
func (c *compiler) product(b *box, in ref) ref {
	for i := len(c.order.levels) - 1; i >= 0; i-- {
		if level := c.order.levels[i]; b[level] != nil {
			in = c.ranges(level, b[level], in, empty)
		}
	}
	return in
}

// action compiles what happens to the packets that match.
func (c *compiler) action(a *Action, r *Rule, at chainKey) ref {
	if a.Map != nil {
		return c.choose(a.Map, r, at)
	}
	switch a.Verdict {
	case Accept, SNAT:
		return terminal(mayAccept)
	case Drop:
		return terminal(mayDrop)
	case Reject:
		return terminal(mayReject)
	case Return:
		return terminal(mayReturn)
	case Queue:
		return terminal(mayAccept | mayDrop)
	case DNAT, Redirect:
		c.nats = append(c.nats, rewriting{a, r, at.table})
		return terminal(c.outs.join(0, []int{len(c.nats) - 1}))
	case Jump, Goto:
		return c.call(a, at)
	}
	return terminal(mayContinue)
}

// call compiles a jump or goto. Whoever is jumped to returns to the next rule;
// whoever is gone to returns for the chain that went.
func (c *compiler) call(a *Action, at chainKey) ref {
	at.chain = a.Chain
	back := mayContinue
	if a.Verdict == Goto {
		back = mayReturn
	}
	return c.rewrite(c.chain(at), func(o uint32) ref {
		return terminal(c.outs.then(c.outs.then(o, mayContinue, mayReturn), mayReturn, back))
	}, nil)
}

// choose compiles a map: the entry's action where its key matches, continue
// where none does.
func (c *compiler) choose(m *Map, r *Rule, at chainKey) ref {
	all, maybe := c.fold(opFirst), false
	for i := range m.Entries {
		e := &m.Entries[i]
		b, some, unsure := c.box(m.Fields, e.Box, at.scope)
		if !some {
			continue
		}
		act := c.action(&e.Action, r, at)
		if unsure {
			maybe = true
			act = c.apply(opAlt, act, terminal(mayContinue|mayDecide))
		}
		all.add(c.apply(opMask, c.product(&b, full), act))
	}
	chosen := c.apply(opFirst, all.sum(empty), terminal(mayContinue))
	if maybe {
		chosen = c.apply(opAlt, chosen, terminal(mayContinue))
	}
	return chosen
}
