package firewall

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicekeep/sluicekeep"
)

// Trace is the way of one packet through the host.
type Trace struct {
	Reach sluicekeep.Reach
	Steps []sluicekeep.PathStep
}

// Trace follows one packet, rule by rule. The step that decides is marked; a
// path that depends on more than the packet ends unknown.
func (e *Evaluator) Trace(p Packet) Trace {
	w := newWalker(e.rules, p)
	j := journey{walker: w, e: e, p: p}
	var verdicts outcome
	if p.Iif == "lo" {
		verdicts = j.outbound()
	} else {
		verdicts = j.inbound()
	}
	if len(e.rules.Unreadable) > 0 && verdicts&mayAccept != 0 {
		verdicts |= mayDrop
		for _, s := range e.rules.Unreadable {
			j.kernel("filter", s, "unknown")
		}
	}
	decide(w.steps, verdicts)
	return Trace{reachOf(verdicts), w.steps}
}

// reachOf names what certainly happens.
func reachOf(verdicts outcome) sluicekeep.Reach {
	switch {
	case verdicts == mayAccept:
		return sluicekeep.ReachOpen
	case verdicts == mayReject:
		return sluicekeep.ReachClosed
	case verdicts != 0 && verdicts&mayAccept == 0:
		return sluicekeep.ReachFiltered
	}
	return sluicekeep.ReachUnknown
}

// decide marks the step that decides: the drop, or the first thing unknown;
// of accepts the last that a rule made, else the last policy.
func decide(steps []sluicekeep.PathStep, verdicts outcome) {
	wanted := []string{"accept", "policy accept"}
	switch reachOf(verdicts) {
	case sluicekeep.ReachClosed, sluicekeep.ReachFiltered:
		wanted = []string{"drop", "reject", "policy drop"}
	case sluicekeep.ReachUnknown:
		wanted = []string{"unknown"}
	}
	last := -1
	for i, s := range steps {
		if s.Hook == "routing" && s.Verdict != "drop" || !slices.Contains(wanted, s.Verdict) {
			continue
		}
		if last < 0 || s.Verdict == "accept" || steps[last].Verdict != "accept" && s.Verdict != "unknown" {
			last = i
		}
	}
	if last >= 0 {
		steps[last].Decides = true
	}
}

// journey is a walker that also knows the host's routing.
type journey struct {
	*walker
	e *Evaluator
	p Packet
}

// kernel records a step that no rule makes.
func (j *journey) kernel(hook, what, verdict string) {
	j.steps = append(j.steps, sluicekeep.PathStep{Hook: hook, Store: "kernel", Rule: what, Verdict: verdict})
}

// run runs a part of a hook with the fields that exist there.
func (j *journey) run(hook Hook, p part) fate {
	j.typed(j.e.types[j.view.family])
	return j.hook(hook, p)
}

// inbound is the way of a packet from outside.
func (j *journey) inbound() outcome {
	j.set(FieldOif, Value{})
	first := j.run(HookIngress, whole)
	first = j.and(first, func() fate { return j.run(HookPrerouting, beforeNAT) })
	first = j.and(first, func() fate { return j.run(HookPrerouting, atNAT) })
	return j.follow(first, j.arrive)
}

// and goes on where the packet may have been accepted.
func (j *journey) and(f fate, next func() fate) fate {
	if f.verdicts&mayAccept == 0 {
		return f
	}
	return f.turn(mayAccept, 0).or(next())
}

// follow goes every way that is possible after nat. The steps tell of the
// first of them.
func (j *journey) follow(f fate, next func() outcome) outcome {
	out := f.verdicts &^ mayAccept
	before := j.walker
	var told *walker
	branch := func(prepare func()) {
		w := *before
		w.steps = slices.Clone(before.steps)
		j.walker = &w
		prepare()
		out |= next()
		if told == nil {
			told = &w
		}
	}
	if f.verdicts&mayAccept != 0 {
		branch(func() {})
	}
	for _, a := range f.nats {
		j.walker = before
		for _, to := range j.targets(a) {
			branch(func() { j.rewrite(to) })
		}
	}
	if j.walker = before; told != nil {
		*before = *told
	}
	return out
}

// rewrite gives the packet another destination.
func (j *journey) rewrite(to netip.AddrPort) {
	j.set(FieldDst, Addr(to.Addr()))
	j.set(FieldDport, Uint(uint64(to.Port())))
	j.set(FieldCTStatus, Uint(statusDNAT))
}

// targets returns where a rewriting may send the packet: of ranges, the ends.
func (j *journey) targets(a *Action) []netip.AddrPort {
	dsts := ends(a.To, j.view.value[FieldDst])
	if a.Verdict == Redirect && len(a.To) == 0 {
		dsts = ends(j.e.host.redirects(j.view.family, j.view.value[FieldIif] == Value{}), Value{})
	}
	var out []netip.AddrPort
	for _, d := range dsts {
		for _, p := range ends(a.ToPort, j.view.value[FieldDport]) {
			out = append(out, netip.AddrPortFrom(d.Addr(j.view.family), uint16(p.Lo)))
		}
	}
	return out
}

// ends returns the ends of ranges, or the value that there was.
func ends(ranges []Range, was Value) []Value {
	if len(ranges) == 0 {
		return []Value{was}
	}
	var out []Value
	for _, r := range ranges {
		out = append(out, r.From)
		if r.From != r.To {
			out = append(out, r.To)
		}
	}
	return out
}

// target is where the packet is headed now.
func (j *journey) target() target {
	dst := j.view.value[FieldDst]
	return target{
		q:   Query{Dst: j.p.Dst},
		dst: []Range{One(dst)}, nat: j.view.value[FieldCTStatus] != Value{},
	}
}

// arrive is the way after nat.
func (j *journey) arrive() outcome {
	f := j.run(HookPrerouting, afterNAT)
	t := j.target()
	here, _ := j.e.locality(t)
	dst := j.view.value[FieldDst].Addr(j.view.family)
	return j.and(f, func() fate {
		switch {
		case here && dst.IsLoopback() && (j.view.family == 6 || !j.e.host.RouteLocalnet):
			j.kernel("routing", "a loopback address is not reached from outside", "drop")
			return fate{verdicts: mayDrop}
		case here:
			j.kernel("routing", dst.String()+" is this host", "input")
			return j.run(HookInput, whole)
		case slices.Contains(j.e.host.NoForward, sluicekeep.FamilyOf(dst)):
			j.kernel("routing", "this host forwards nothing", "drop")
			return fate{verdicts: mayDrop}
		}
		j.leave(t)
		return j.run(HookForward, whole)
	}).verdicts
}

// leave finds out through which interface the packet leaves.
func (j *journey) leave(t target) {
	exits := j.e.exits(t)
	dst := j.view.value[FieldDst].Addr(j.view.family)
	j.view.unknown[FieldOif] = len(exits) != 1 || exits[0].From != exits[0].To
	out := "an interface that is not known"
	switch {
	case j.p.Oif != "":
		j.set(FieldOif, IfaceName(j.p.Oif))
		out = j.p.Oif
	case !j.view.unknown[FieldOif]:
		j.set(FieldOif, exits[0].From)
		out = exits[0].From.IfaceName()
	}
	j.kernel("routing", "to "+dst.String()+" through "+out, "forward")
}

// outbound is the way of the host to itself.
func (j *journey) outbound() outcome {
	lo := j.view.value[FieldIif]
	j.set(FieldIif, Value{})
	j.set(FieldOif, lo)
	first := j.run(HookOutput, beforeNAT)
	first = j.and(first, func() fate { return j.run(HookOutput, atNAT) })
	return j.follow(first, func() outcome {
		t := j.target()
		if here, _ := j.e.locality(t); !here {
			j.leave(t)
			return j.run(HookOutput, afterNAT).verdicts
		}
		f := j.run(HookOutput, afterNAT)
		return j.and(f, func() fate {
			j.set(FieldIif, lo)
			j.set(FieldOif, Value{})
			back := j.run(HookPrerouting, looped)
			return j.and(back, func() fate { return j.run(HookInput, whole) })
		}).verdicts
	})
}

// addressText writes a range of addresses, as IPv4 where it fits.
func addressText(r Range) string {
	family := uint8(6)
	if r.To.Hi == 0 && r.To.Lo <= 0xffffffff {
		family = 4
	}
	from, to := r.From.Addr(family), r.To.Addr(family)
	if from == to {
		if family == 6 {
			return "[" + from.String() + "]"
		}
		return from.String()
	}
	return from.String() + "-" + to.String()
}

// portText writes ports as in ":80" or ":8000-8010".
func portText(ports []Range) string {
	var out []string
	for _, r := range ports {
		text := strconv.FormatUint(r.From.Lo, 10)
		if r.From != r.To {
			text += "-" + strconv.FormatUint(r.To.Lo, 10)
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return ""
	}
	return ":" + strings.Join(out, ",")
}

// Decision is what one hook does with a packet.
type Decision struct {
	Verdict Verdict // Accept, Drop or Reject; meaningless unless Sure
	Sure    bool    // false: it depends on more than the packet
	Step    sluicekeep.PathStep
}

// Eval asks all base chains of one hook, input or forward, about a packet. In
// the input hook the destination is an address of the host, in the forward
// hook it is not.
func Eval(rules *Ruleset, hook Hook, p Packet) Decision {
	w := newWalker(rules, p)
	var own []Range
	if hook == HookInput {
		own = []Range{One(Addr(p.Dst))}
	}
	w.typed(fibTypes(w.view.family, normal(append(own, loopback(w.view.family)))))
	return w.decision(w.hook(hook, whole))
}

// decision reads a fate.
func (w *walker) decision(f fate) Decision {
	decide(w.steps, f.verdicts)
	d := Decision{Sure: true}
	switch reachOf(f.verdicts) {
	case sluicekeep.ReachOpen:
		d.Verdict = Accept
	case sluicekeep.ReachClosed:
		d.Verdict = Reject
	case sluicekeep.ReachFiltered:
		d.Verdict = Drop
	default:
		d.Sure = false
	}
	for _, s := range w.steps {
		if s.Decides {
			d.Step = s
		}
	}
	return d
}
