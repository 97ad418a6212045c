package firewall

import (
	"net/netip"
	"slices"
)

// The kinds of flaw.
const (
	// Shadowed: earlier rules decide every new flow that the rule matches.
	Shadowed = "shadowed"
	// Redundant: without the rule, every new flow has the same fate.
	Redundant = "redundant"
)

// Flaw is a rule that changes nothing for new flows. Rules that match no new
// flow at all (established, related) are not judged.
type Flaw struct {
	Kind    string
	Store   Store
	Table   string
	Chain   string
	Index   int    // place of the rule in its chain, from 0
	Rule    string // text of the rule
	By      string // text of the rule that decides the witness instead, or "policy"
	Witness Packet // a packet that the rule matches
}

// Lint finds shadowed and redundant rules in every chain that some hook
// reaches. A chain that several hooks, families or rewritings reach has a flaw
// only when it has it for each.
func Lint(rules *Ruleset, local ...netip.Addr) (flaws []Flaw, err error) {
	defer rescue(&err)
	h := Host{Local: local}
	addrs := map[uint8][]Range{4: h.local(4), 6: h.local(6)}
	found := map[*Rule]*Flaw{}
	useful := map[*Rule]bool{}
	for _, group := range scopesOf(rules) {
		c := newCompiler(newSpace(2*defaultLimit, nestingOrder()), rules, addrs)
		c.chain(group[0].key) // and all that it reaches: they stay pinned
		height := len(c.pinned)
		for _, sc := range group {
			l := &linter{compiler: c, key: sc.key, policy: sc.policy, found: found, useful: useful}
			l.chain()
			c.pinned = c.pinned[:height]
		}
	}
	for i := range rules.Tables {
		for j := range rules.Tables[i].Chains {
			for k := range rules.Tables[i].Chains[j].Rules {
				r := &rules.Tables[i].Chains[j].Rules[k]
				if f := found[r]; f != nil && !useful[r] {
					flaws = append(flaws, *f)
				}
			}
		}
	}
	return flaws, nil
}

// lintScope is one chain as one kind of packet sees it.
type lintScope struct {
	key    chainKey
	policy outcome // what happens to packets that fall off the chain
}

// scopesOf lists every chain with every kind of packet that reaches it, by base
// chain and kind of packet.
func scopesOf(rules *Ruleset) [][]lintScope {
	index := indexChains(rules)
	var out [][]lintScope
	for _, family := range []uint8{4, 6} {
		for _, hook := range []Hook{HookPrerouting, HookInput, HookForward, HookOutput, HookPostrouting} {
			for _, b := range rules.bases(family, hook) {
				chains := index.reached(b.table, b.Chain)
				for _, natted := range []bool{false, true} {
					if natted && !slices.ContainsFunc(chains, asksOriginal) {
						continue
					}
					out = append(out, scopesAt(b, chains, packetScope(family, b.Chain, whole, natted)))
				}
			}
		}
	}
	return out
}

// scopesAt lists the chains that a base chain reaches, itself first.
func scopesAt(b base, chains []*Chain, sc scope) []lintScope {
	var out []lintScope
	for i, ch := range chains {
		s := lintScope{chainKey{b.table, ch.Name, sc}, mayReturn}
		if i == 0 {
			if s.policy = mayAccept; b.Policy == Drop {
				s.policy = mayDrop
			}
		}
		if !slices.ContainsFunc(out, func(o lintScope) bool { return o.key == s.key }) {
			out = append(out, s)
		}
	}
	return out
}

// asksOriginal reports whether a chain asks what packets were before nat.
func asksOriginal(ch *Chain) bool {
	original := func(f Field) bool { return f == FieldCTStatus || f == FieldCTDst || f == FieldCTDport }
	asks := func(m Match) bool { return slices.ContainsFunc(m.Fields, original) }
	return slices.ContainsFunc(ch.Rules, func(r Rule) bool {
		m := r.Action.Map
		return slices.ContainsFunc(r.Matches, asks) || m != nil && slices.ContainsFunc(m.Fields, original)
	})
}

// linter judges the rules of one chain in one scope.
type linter struct {
	*compiler
	key    chainKey
	policy outcome
	rules  []judged
	found  map[*Rule]*Flaw
	useful map[*Rule]bool
}

// judged is a rule with what it matches and what it does.
type judged struct {
	*Rule
	index       int
	where, does ref
}

// chain judges all rules of the chain.
func (l *linter) chain() {
	ch := l.index[chainName{l.key.table, l.key.chain}]
	for i := range ch.Rules {
		r := &ch.Rules[i]
		does := l.pin(l.rule(r, l.key))
		where, _ := l.matches(r.Matches, l.key.scope)
		does = l.rewrite(does, func(o uint32) ref { return terminal(l.outs.then(o, mayReturn, l.policy)) }, nil)
		l.rules = append(l.rules, judged{r, i, l.pin(where), l.pin(does)})
	}
	if n := len(l.rules); n > 0 {
		l.judge(0, n, full, terminal(l.policy))
	}
}

// sum returns what some neighbouring rules match, and what they do, and keeps
// both.
func (l *linter) sum(lo, hi int) (where, does ref) {
	some := l.fold(opUnion)
	for _, r := range l.rules[lo:hi] {
		some.add(r.where)
	}
	where = some.sum(empty)
	l.keep(where)
	all := l.fold(opSeq)
	for _, r := range l.rules[lo:hi] {
		all.add(r.does)
	}
	does = all.sum(terminal(mayContinue))
	l.keep(does)
	return where, does
}

// judge judges some neighbouring rules: reach are the packets that get to
// them, after is what happens to those that leave them. Both are cut to what
// the rules match, so that the work shrinks with their number; sums are made
// anew at each level rather than held, which bounds the memory.
func (l *linter) judge(lo, hi int, reach, after ref) {
	if hi-lo == 1 {
		l.leaf(&l.rules[lo], reach, after)
		return
	}
	height, mid := len(l.roots), (lo+hi)/2
	l.keep(reach)
	l.keep(after)
	leftWhere, leftDoes := l.sum(lo, mid)
	rightWhere, rightDoes := l.sum(mid, hi)
	passes := l.rewrite(leftDoes, func(o uint32) ref {
		v, _ := l.outs.split(o)
		return truth(v&mayContinue != 0)
	}, nil)
	rightReach := l.apply(opIntersect, rightWhere, l.apply(opIntersect, reach, passes))
	l.keep(rightReach)
	l.judge(lo, mid, l.apply(opIntersect, leftWhere, reach),
		l.apply(opMask, leftWhere, l.apply(opSeq, rightDoes, after)))
	l.judge(mid, hi, rightReach, l.apply(opMask, rightWhere, after))
	l.release(height)
}

// leaf judges one rule.
func (l *linter) leaf(r *judged, reach, after ref) {
	reach, after = l.apply(opIntersect, r.where, reach), l.apply(opMask, r.where, after)
	switch {
	case r.where == empty || r.does == terminal(mayContinue):
	case reach == empty:
		l.flaw(r, Shadowed, r.where)
	case r.Action.Marks || len(r.Unknown) > 0:
		l.useful[r.Rule] = true
	case l.apply(opMask, reach, l.apply(opSeq, r.does, after)) == l.apply(opMask, reach, after):
		l.flaw(r, Redundant, reach)
	default:
		l.useful[r.Rule] = true
	}
}

// flaw notes a flaw, with a packet of the set as witness.
func (l *linter) flaw(r *judged, kind string, set ref) {
	if f := l.found[r.Rule]; f != nil {
		if f.Kind == Shadowed {
			f.Kind = kind // shadowed in one scope only is no more than redundant
		}
		return
	}
	set = l.apply(opIntersect, set, l.universe(l.key.family))
	v, ok := l.witness(set, func(v uint32) bool { return v != 0 }, typical(l.key.family))
	if !ok {
		return
	}
	t := &l.compiler.rules.Tables[l.key.table]
	l.found[r.Rule] = &Flaw{
		Kind: kind, Store: t.Store, Table: t.Family + " " + t.Name, Chain: l.key.chain,
		Index: r.index, Rule: r.Text, By: l.decider(r, v), Witness: packetOf(v, l.key.family),
	}
}

// decider returns the rule that decides a packet when r is not there.
func (l *linter) decider(r *judged, v [levelCount]Value) string {
	for _, other := range l.rules {
		if other.index == r.index {
			continue
		}
		if o, _ := l.outs.split(l.walk(other.does, v).value()); o&mayContinue == 0 {
			return other.Text
		}
	}
	return "policy"
}

// walk follows a diagram to the terminal of one packet.
func (s *space) walk(r ref, v [levelCount]Value) ref {
	for !r.terminal() {
		n := &s.nodes[r]
		r = n.child(v[n.level])
	}
	return r
}

// typical returns the values that witnesses have where it does not matter.
func typical(family uint8) [levelCount]Value {
	src, dst := netip.AddrFrom4([4]byte{198, 51, 100, 7}), netip.AddrFrom4([4]byte{192, 0, 2, 1})
	if family == 6 {
		src = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 7})
		dst = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 1})
	}
	return [levelCount]Value{
		levelProto: Uint(6), levelDport: Uint(80), levelCTDport: Uint(80), levelSport: Uint(40000),
		levelSrc: Addr(src), levelDst: Addr(dst), levelCTDst: Addr(dst), levelIif: IfaceName("eth0"),
	}
}
