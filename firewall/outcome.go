package firewall

import (
	"slices"
	"strconv"
)

// outcome names a set of things that may happen to a packet. With one member
// it is certain; with several the rules depend on more than the packet. The
// first 32 outcomes are the sets of verdicts alone, as bit masks; sets that
// hold rewritings are numbered after them.
type outcome = uint32

// What may happen. The empty outcome means: no such packet. The true terminal
// of sets doubles as mayContinue.
const (
	mayContinue outcome = 1 << iota // fell off the end of the chain
	mayReturn                       // left by return
	mayAccept
	mayDrop
	mayReject
	verdictSets // first outcome with rewritings
	mayDecide   = mayAccept | mayDrop | mayReject
)

// op is an operation on two terminals. Operations on sets see terminals 0 and
// 1; the others see outcomes.
type op uint32

const (
	opUnion op = iota + 1
	opIntersect
	opDiff
	opSeq    // first a; where it continues, b
	opHook   // first base chain a; where it accepts, base chain b
	opAlt    // either
	opMask   // b where a is true, else nothing
	opApply  // b where a is true, else continue
	opFirst  // a where it is not 0, else b
	opDiffer // true where a and b are not the same
	opCount
)

// outcomes numbers the sets of rewritings.
type outcomes struct {
	nats []natSet
	byID map[string]outcome
}

// natSet is an outcome with rewritings: verdicts, and numbers of rewritings.
type natSet struct {
	verdicts outcome
	nats     []int
}

func newOutcomes() outcomes { return outcomes{byID: map[string]outcome{}} }

// split returns the verdicts and rewritings of an outcome.
func (t *outcomes) split(o outcome) (verdicts outcome, nats []int) {
	if o < verdictSets {
		return o, nil
	}
	n := t.nats[o-verdictSets]
	return n.verdicts, n.nats
}

// join returns the outcome of verdicts and rewritings.
func (t *outcomes) join(verdicts outcome, nats []int) outcome {
	if len(nats) == 0 {
		return verdicts
	}
	slices.Sort(nats)
	nats = slices.Compact(nats)
	key := strconv.Itoa(int(verdicts))
	for _, n := range nats {
		key += "," + strconv.Itoa(n)
	}
	id, ok := t.byID[key]
	if !ok {
		id = verdictSets + outcome(len(t.nats))
		t.nats = append(t.nats, natSet{verdicts, nats})
		t.byID[key] = id
	}
	return id
}

// alt returns the outcome in which a or b may happen.
func (t *outcomes) alt(a, b outcome) outcome {
	if a < verdictSets && b < verdictSets {
		return a | b
	}
	va, na := t.split(a)
	vb, nb := t.split(b)
	return t.join(va|vb, slices.Concat(na, nb))
}

// then returns a, with b in place of one of its verdicts.
func (t *outcomes) then(a, verdict, b outcome) outcome {
	v, nats := t.split(a)
	if v&verdict == 0 {
		return a
	}
	return t.alt(t.join(v&^verdict, slices.Clone(nats)), b)
}

// shortcut answers an operation that needs no look at the nodes.
func (s *space) shortcut(o op, a, b ref) (ref, bool) {
	switch o {
	case opUnion, opIntersect, opDiff:
		return shortSet(o, a, b)
	case opMask, opApply:
		return shortGuard(o, a, b)
	case opFirst:
		return shortFirst(a, b)
	case opDiffer:
		if a == b || a.terminal() && b.terminal() {
			return truth(a != b), true
		}
		return 0, false
	}
	return s.shortOutcome(o, a, b)
}

// shortSet knows the laws of sets.
func shortSet(o op, a, b ref) (ref, bool) {
	switch {
	case a == b:
		if o == opDiff {
			return empty, true
		}
		return a, true
	case a == empty:
		if o == opUnion {
			return b, true
		}
		return empty, true
	case b == empty:
		if o == opIntersect {
			return empty, true
		}
		return a, true
	case b == full && o == opDiff:
		return empty, true
	case b == full && o == opIntersect, a == full && o == opUnion:
		return a, true
	case a == full && o == opIntersect, b == full && o == opUnion:
		return b, true
	}
	return 0, false
}

// shortGuard knows what a set lets through.
func shortGuard(o op, set, b ref) (ref, bool) {
	switch {
	case set == full:
		return b, true
	case set == empty && o == opMask:
		return empty, true
	case set == empty || b == terminal(mayContinue) && o == opApply:
		return terminal(mayContinue), true
	case b == empty && o == opMask:
		return empty, true
	}
	return 0, false
}

func shortFirst(a, b ref) (ref, bool) {
	switch {
	case a == empty:
		return b, true
	case b == empty || a.terminal():
		return a, true
	}
	return 0, false
}

// shortOutcome knows the operations on outcomes.
func (s *space) shortOutcome(o op, a, b ref) (ref, bool) {
	if a == b && o == opAlt || b == empty && o == opAlt {
		return a, true
	}
	if a == empty {
		if o == opAlt {
			return b, true
		}
		return empty, true
	}
	passes := mayContinue
	if o == opHook {
		passes = mayAccept
	}
	if o != opAlt && b == terminal(passes) {
		return a, true
	}
	if !a.terminal() {
		return 0, false
	}
	verdicts, _ := s.outs.split(a.value())
	switch {
	case o != opAlt && verdicts&passes == 0:
		return a, true
	case o != opAlt && a.value() == passes:
		return b, true
	case !b.terminal():
		return 0, false
	case o == opAlt:
		return terminal(s.outs.alt(a.value(), b.value())), true
	}
	return terminal(s.outs.then(a.value(), passes, b.value())), true
}
