package firewall

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/sluicekeep/sluicekeep"
)

// Difference is a way in which two rule sets differ for new flows.
type Difference struct {
	Family  sluicekeep.Family
	Hook    Hook   // input or forward, with prerouting before it; prerouting for nat
	Witness Packet // a packet that they treat differently
	A, B    string // what each may do with it: "accept", "dnat 10.0.0.2:80", "accept or drop"
}

// Differences compares what two rule sets do with new flows on the way to the
// host, through it, and in nat. None means that they are equal, rule by rule or
// not.
func Differences(a, b *Ruleset, local ...netip.Addr) (out []Difference, err error) {
	defer rescue(&err)
	h := Host{Local: local}
	addrs := map[uint8][]Range{4: h.local(4), 6: h.local(6)}
	s := newSpace(2*defaultLimit, nestingOrder())
	x, y := newCompiler(s, a, addrs), newCompiler(s, b, addrs)
	y.marked, x.marked = x.marked || y.marked, x.marked || y.marked
	for _, family := range []uint8{4, 6} {
		for _, hook := range []Hook{HookInput, HookForward, HookPrerouting} {
			for _, natted := range []bool{false, true} {
				if d, differ := compare(x, y, stageKey{family, hook, whole, natted}); differ {
					out = append(out, d)
					break
				}
			}
		}
	}
	return out, nil
}

// compare compares one way through two rule sets that share a space.
func compare(x, y *compiler, k stageKey) (Difference, bool) {
	if k.hook == HookPrerouting && k.natted {
		return Difference{}, false
	}
	p, q := x.way(k), y.way(k)
	s := x.space
	p = s.rewrite(p, func(o uint32) ref { return terminal(renumber(x, x, o)) }, nil)
	q = s.rewrite(q, func(o uint32) ref { return terminal(renumber(x, y, o)) }, nil)
	differ := s.apply(opIntersect, s.apply(opDiffer, p, q), x.universe(k.family))
	v, ok := s.witness(differ, func(v uint32) bool { return v != 0 }, typical(k.family))
	if !ok {
		return Difference{}, false
	}
	d := Difference{Family: sluicekeep.IPv4, Hook: k.hook, Witness: packetOf(v, k.family)}
	if k.family == 6 {
		d.Family = sluicekeep.IPv6
	}
	d.A, d.B = x.words(s.walk(p, v).value()), x.words(s.walk(q, v).value())
	return d, true
}

// way compiles the way to the end of a hook, as one pinned diagram.
func (c *compiler) way(k stageKey) ref {
	if k.hook == HookPrerouting {
		return c.stage(k.family, HookPrerouting, atNAT, false)
	}
	r := c.stage(k.family, HookIngress, whole, false)
	for _, p := range []part{beforeNAT, afterNAT} {
		r = c.pin(c.apply(opHook, r, c.stage(k.family, HookPrerouting, p, k.natted && p == afterNAT)))
	}
	end := c.stage(k.family, k.hook, whole, k.natted)
	return c.pin(c.apply(opHook, r, end))
}

// renumber gives y's rewritings the numbers of equal ones of x.
func renumber(x, y *compiler, o outcome) outcome {
	verdicts, nats := x.outs.split(o)
	if len(nats) == 0 {
		return o
	}
	var same []int
	for _, n := range nats {
		i := slices.IndexFunc(x.nats, func(r rewriting) bool { return sameTarget(r.Action, y.nats[n].Action) })
		if i < 0 {
			x.nats = append(x.nats, y.nats[n])
			i = len(x.nats) - 1
		}
		same = append(same, i)
	}
	return x.outs.join(verdicts, same)
}

func sameTarget(a, b *Action) bool {
	return a.Verdict == b.Verdict && slices.Equal(normal(a.To), normal(b.To)) &&
		slices.Equal(normal(a.ToPort), normal(b.ToPort))
}

// words says in words what may happen, as in "accept or drop".
func (c *compiler) words(o outcome) string {
	verdicts, nats := c.outs.split(o)
	var out []string
	for _, v := range []struct {
		is   outcome
		word string
	}{{mayAccept, "accept"}, {mayDrop, "drop"}, {mayReject, "reject"}, {mayContinue | mayReturn, "unknown"}} {
		if verdicts&v.is != 0 {
			out = append(out, v.word)
		}
	}
	for _, n := range nats {
		out = append(out, rewritingText(c.nats[n].Action))
	}
	return strings.Join(out, " or ")
}
