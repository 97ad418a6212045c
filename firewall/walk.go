package firewall

import (
	"slices"
	"strings"

	"github.com/sluicekeep/sluicekeep"
)

// walker takes one packet through chains rule by rule, as the kernel does. It
// shares nothing with the diagrams, so that each is the other's judge.
type walker struct {
	rules *Ruleset
	view  view
	steps []sluicekeep.PathStep
	depth int
	// visits counts rules: jumps that fan out at every level may ask for more
	// than a life has time.
	visits int
}

// Bounds of a walk. The kernel allows 16 levels of jumps.
const (
	maxDepth  = 64
	maxVisits = 1_000_000
)

// fate is what may happen to the packet in a chain: verdicts, and rewritings.
type fate struct {
	verdicts outcome
	nats     []*Action
}

func (f fate) or(g fate) fate {
	return fate{f.verdicts | g.verdicts, slices.Concat(f.nats, g.nats)}
}

// turn replaces verdict by another.
func (f fate) turn(verdict, by outcome) fate {
	if f.verdicts&verdict != 0 {
		f.verdicts = f.verdicts&^verdict | by
	}
	return f
}

// set tells the walker a field of the packet.
func (w *walker) set(f Field, v Value) { w.view.value[f], w.view.unknown[f] = v, false }

// newWalker makes a walker for a packet whose addresses have these types.
func newWalker(rules *Ruleset, p Packet) *walker {
	w := &walker{rules: rules}
	w.view.family = familyNumber(p.Dst)
	w.set(FieldFamily, Uint(uint64(w.view.family)))
	w.set(FieldSrc, Addr(p.Src))
	w.set(FieldDst, Addr(p.Dst))
	w.set(FieldCTDst, Addr(p.Dst))
	w.set(FieldProto, Uint(uint64(p.Proto)))
	w.set(FieldSport, Uint(uint64(p.Sport)))
	w.set(FieldDport, Uint(uint64(p.Dport)))
	w.set(FieldCTDport, Uint(uint64(p.Dport)))
	w.set(FieldIif, IfaceName(p.Iif))
	w.set(FieldOif, IfaceName(p.Oif))
	w.set(FieldTCPFlags, Uint(flagsSYN))
	w.set(FieldReverse, Uint(1))
	w.view.unknown[FieldMark] = marks(rules)
	return w
}

// typed tells the walker the types of the packet's addresses as they are now.
func (w *walker) typed(types []fibType) {
	for f, t := range map[Field]Field{FieldSrc: FieldSrcType, FieldDst: FieldDstType} {
		for _, kind := range types {
			if slices.ContainsFunc(kind.ranges, func(r Range) bool { return r.Has(w.view.value[f]) }) {
				w.set(t, Uint(kind.kind))
			}
		}
	}
}

// hook runs the base chains of a part of a hook. Drops are final; an accept
// leads to the next base chain; so does, among nat chains, all but a rewriting.
func (w *walker) hook(hook Hook, p part) fate {
	out := fate{verdicts: mayAccept}
	for _, b := range w.rules.bases(w.view.family, hook) {
		if out.verdicts&mayAccept == 0 {
			break
		}
		if p.has(b.Chain) {
			out = out.turn(mayAccept, 0).or(w.base(b, p))
		}
	}
	return out
}

// base runs one base chain.
func (w *walker) base(b base, p part) fate {
	sc := packetScope(w.view.family, b.Chain, p, w.view.value[FieldCTStatus] != Value{})
	state, _ := sc.constant(FieldState)
	w.set(FieldState, state)
	w.depth = 0
	f := w.chain(b, b.Chain)
	policy, said := mayAccept, "policy accept"
	if b.Policy == Drop {
		policy, said = mayDrop, "policy drop"
	}
	if f.verdicts&(mayContinue|mayReturn) != 0 && (len(b.Rules) > 0 || policy == mayDrop) {
		w.note(b, b.Chain, nil, said)
	}
	f = f.turn(mayContinue, policy).turn(mayReturn, policy)
	if b.Hook == HookIngress {
		f.verdicts |= mayAccept
	}
	return f
}

// chain runs the rules of a chain until the packet's fate is certain.
func (w *walker) chain(b base, ch *Chain) fate {
	var out fate
	for i := range ch.Rules {
		r := &ch.Rules[i]
		if w.visits++; w.visits > maxVisits {
			w.note(b, ch, r, "unknown")
			return fate{verdicts: mayDecide}
		}
		holds, sure := w.rule(r)
		if !holds {
			continue
		}
		height := len(w.steps)
		act, more := w.act(b, ch, r)
		if !more {
			continue
		}
		if !sure {
			w.steps = w.steps[:height]
			w.note(b, ch, r, "unknown")
			act.verdicts |= mayContinue
		}
		if act.verdicts == mayContinue && len(act.nats) == 0 {
			continue
		}
		out = out.or(act.turn(mayContinue, 0))
		if act.verdicts&mayContinue == 0 {
			return out
		}
	}
	out.verdicts |= mayContinue
	return out
}

// rule reports whether all matches hold, and whether that is sure.
func (w *walker) rule(r *Rule) (holds, sure bool) {
	sure = len(r.Unknown) == 0
	for i := range r.Matches {
		in, certain := w.view.matches(&r.Matches[i])
		if !in {
			return false, true
		}
		sure = sure && certain
	}
	return true, sure
}

// act does what a rule's action says. More is false when it says nothing.
func (w *walker) act(b base, ch *Chain, r *Rule) (f fate, more bool) {
	actions, sure := w.choose(&r.Action)
	for _, a := range actions {
		f = f.or(w.do(b, ch, r, a))
	}
	if !sure {
		f.verdicts |= mayContinue | mayDecide
	}
	return f, len(actions) > 0 && (f.verdicts != mayContinue || len(f.nats) > 0)
}

// choose returns the actions that a rule's map may choose.
func (w *walker) choose(a *Action) (actions []*Action, sure bool) {
	if a.Map == nil {
		return []*Action{a}, true
	}
	for i := range a.Map.Entries {
		e := &a.Map.Entries[i]
		in, certain := w.view.in(a.Map.Fields, e.Box)
		if in && certain {
			return append(actions, &e.Action), len(actions) == 0
		}
		if in {
			actions = append(actions, &e.Action)
		}
	}
	return actions, len(actions) == 0
}

// do does one action.
func (w *walker) do(b base, ch *Chain, r *Rule, a *Action) (f fate) {
	if a.Map != nil {
		f, _ = w.act(b, ch, &Rule{Text: r.Text, Writer: r.Writer, Action: *a})
		return f
	}
	switch a.Verdict {
	case Accept, SNAT:
		f.verdicts = mayAccept
		w.note(b, ch, r, "accept")
	case Drop:
		f.verdicts = mayDrop
		w.note(b, ch, r, "drop")
	case Reject:
		f.verdicts = mayReject
		w.note(b, ch, r, "reject")
	case Return:
		f.verdicts = mayReturn
	case Queue:
		f.verdicts = mayAccept | mayDrop
		w.note(b, ch, r, "unknown")
	case DNAT, Redirect:
		f.nats = []*Action{a}
		w.note(b, ch, r, rewritingText(a))
	case Jump, Goto:
		f = w.call(b, ch, r, a)
	default:
		f.verdicts = mayContinue
	}
	return f
}

// call runs another chain. What it did not decide leaves no step.
func (w *walker) call(b base, ch *Chain, r *Rule, a *Action) fate {
	t := &w.rules.Tables[b.table]
	i := slices.IndexFunc(t.Chains, func(c Chain) bool { return c.Name == a.Chain })
	if i < 0 || w.depth > maxDepth {
		w.note(b, ch, r, "unknown")
		return fate{verdicts: mayContinue | mayDecide}
	}
	height := len(w.steps)
	verb := "jump "
	if a.Verdict == Goto {
		verb = "goto "
	}
	w.note(b, ch, r, verb+a.Chain)
	w.depth++
	f := w.chain(b, &t.Chains[i])
	w.depth--
	if len(w.steps) == height+1 {
		w.steps = w.steps[:height]
	}
	back := mayContinue
	if a.Verdict == Goto {
		back = mayReturn
	}
	return f.turn(mayContinue, mayReturn).turn(mayReturn, back)
}

// note records a step.
func (w *walker) note(b base, ch *Chain, r *Rule, verdict string) {
	t := &w.rules.Tables[b.table]
	step := sluicekeep.PathStep{
		Hook: string(b.Hook), Priority: b.Priority, Store: string(t.Store),
		Table: t.Family + " " + t.Name, Chain: ch.Name, Writer: t.Writer, Verdict: verdict,
	}
	if r != nil {
		step.Rule = r.Text
		if r.Writer != "" {
			step.Writer = r.Writer
		}
	}
	w.steps = append(w.steps, step)
}

// rewritingText says in words where a rewriting sends packets.
func rewritingText(a *Action) string {
	if a.Verdict == Redirect {
		return strings.TrimSpace("redirect " + portText(a.ToPort))
	}
	to := ""
	if len(a.To) > 0 {
		to = addressText(a.To[0])
	}
	return strings.TrimSpace("dnat " + to + portText(a.ToPort))
}
