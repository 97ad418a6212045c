package firewall_test

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicekeep/sluicekeep"
	. "github.com/sluicekeep/sluicekeep/firewall"
)

// small draws rule sets over few values, so that rules meet each other often.
type small struct {
	*rapid.T
	family string // ip or ip6
	wild   bool   // unknown matches too
}

func (t small) addr(label string) netip.Addr {
	v4 := []string{"192.0.2.1", "192.0.2.9", "172.17.0.1", "172.17.0.2", "127.0.0.1", "198.51.100.7", "10.1.2.3"}
	v6 := []string{"2001:db8:1::1", "2001:db8:1::9", "fd00::1", "fd00::2", "::1", "2001:db8:2::7", "2001:db8:3::3"}
	if t.family == "ip6" {
		return netip.MustParseAddr(rapid.SampledFrom(v6).Draw(t.T, label))
	}
	return netip.MustParseAddr(rapid.SampledFrom(v4).Draw(t.T, label))
}

func (t small) prefix(label string) Range {
	a := t.addr(label)
	p, err := a.Prefix(rapid.IntRange(0, a.BitLen()/8).Draw(t.T, label+" bits") * 8)
	if err != nil {
		t.Fatal(err)
	}
	return Prefix(p)
}

func (t small) port(label string) Range {
	from := rapid.Uint64Range(78, 82).Draw(t.T, label)
	return Between(from, from+rapid.Uint64Range(0, 2).Draw(t.T, label+" width"))
}

func (t small) one(f Field) Range {
	switch f {
	case FieldSrc, FieldDst, FieldCTDst:
		return t.prefix("addr")
	case FieldSport:
		return rapid.SampledFrom([]Range{Between(0, 1023), Between(40000, 40001), Between(1024, 65535)}).Draw(t.T, "sport")
	case FieldDport, FieldCTDport:
		return t.port("dport")
	case FieldProto:
		return One(Uint(rapid.SampledFrom([]uint64{6, 17}).Draw(t.T, "proto")))
	case FieldIif, FieldOif:
		return Iface(rapid.SampledFrom([]string{"eth0", "eth*", "lo", "docker0"}).Draw(t.T, "iface"))
	case FieldState:
		return One(Uint(rapid.SampledFrom([]uint64{1, 2, 8}).Draw(t.T, "state")))
	case FieldCTStatus:
		return One(Uint(32))
	case FieldFamily:
		return One(Uint(rapid.SampledFrom([]uint64{4, 6}).Draw(t.T, "family")))
	}
	return One(Uint(rapid.SampledFrom([]uint64{1, 2}).Draw(t.T, "type")))
}

func (t small) fields(max int) []Field {
	all := []Field{
		FieldSrc, FieldDst, FieldProto, FieldSport, FieldDport, FieldIif, FieldOif, FieldState,
		FieldDstType, FieldSrcType, FieldCTStatus, FieldCTDst, FieldCTDport, FieldFamily,
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, max, rapid.ID[Field]).Draw(t.T, "fields")
}

func (t small) match() Match {
	m := Match{Fields: t.fields(2), Negate: rapid.IntRange(0, 4).Draw(t.T, "negate") == 0}
	for range rapid.IntRange(1, 2).Draw(t.T, "boxes") {
		m.Boxes = append(m.Boxes, t.box(m.Fields))
	}
	return m
}

func (t small) box(fields []Field) []Range {
	var b []Range
	for _, f := range fields {
		b = append(b, t.one(f))
	}
	return b
}

func (t small) action(nat bool, calls []string) Action {
	verdicts := []Verdict{Accept, Drop, Reject, Return, Accept, Drop}
	switch {
	case nat:
		verdicts = []Verdict{DNAT, DNAT, Redirect, Accept, Return}
	case t.wild:
		verdicts = append(verdicts, Queue)
	}
	if len(calls) > 0 {
		verdicts = append(verdicts, Jump, Goto, Jump)
	}
	a := Action{Verdict: rapid.SampledFrom(verdicts).Draw(t.T, "verdict")}
	switch a.Verdict {
	case Jump, Goto:
		a.Chain = rapid.SampledFrom(calls).Draw(t.T, "call")
	case DNAT:
		if rapid.Bool().Draw(t.T, "to") {
			a.To = []Range{One(Addr(t.addr("to")))}
		}
		fallthrough
	case Redirect:
		if len(a.To) == 0 || rapid.Bool().Draw(t.T, "to port") {
			a.ToPort = []Range{One(t.port("to port").From)}
		}
	}
	return a
}

func (t small) rules(nat bool, calls []string) []Rule {
	var out []Rule
	for i := range rapid.IntRange(0, 4).Draw(t.T, "rules") {
		r := Rule{Text: fmt.Sprint("rule ", i), Action: t.action(nat, calls)}
		for range rapid.IntRange(0, 2).Draw(t.T, "matches") {
			r.Matches = append(r.Matches, t.match())
		}
		if rapid.IntRange(0, 5).Draw(t.T, "map") == 0 {
			m := &Map{Fields: t.fields(2)}
			for range rapid.IntRange(0, 3).Draw(t.T, "entries") {
				m.Entries = append(m.Entries, MapEntry{t.box(m.Fields), t.action(nat, calls)})
			}
			r.Action = Action{Map: m}
		}
		if t.wild && rapid.IntRange(0, 6).Draw(t.T, "unknown") == 0 {
			r.Unknown = []string{"limit"}
		}
		out = append(out, r)
	}
	return out
}

func (t small) ruleset() *Ruleset {
	var rs Ruleset
	for i := range rapid.IntRange(1, 2).Draw(t.T, "tables") {
		tb := Table{Name: fmt.Sprint("t", i), Family: rapid.SampledFrom([]string{"inet", t.family}).Draw(t.T, "table family")}
		for j := range rapid.IntRange(1, 4).Draw(t.T, "chains") {
			ch := Chain{Name: fmt.Sprint("b", j), Type: "filter", Policy: Accept}
			ch.Hook = rapid.SampledFrom([]Hook{
				HookPrerouting, HookInput, HookForward, HookOutput, HookInput, HookPrerouting,
			}).Draw(t.T, "hook")
			ch.Priority = rapid.SampledFrom([]int{-300, -150, -100, -50, 0}).Draw(t.T, "priority")
			nat := (ch.Hook == HookPrerouting || ch.Hook == HookOutput) && rapid.Bool().Draw(t.T, "nat")
			if nat {
				ch.Type = "nat"
			}
			if !nat && rapid.IntRange(0, 2).Draw(t.T, "policy") == 0 {
				ch.Policy = Drop
			}
			sub := fmt.Sprint("u", j)
			ch.Rules = t.rules(nat, []string{sub})
			tb.Chains = append(tb.Chains, ch,
				Chain{Name: sub, Rules: t.rules(nat, []string{sub + "x"})},
				Chain{Name: sub + "x", Rules: t.rules(nat, nil)})
		}
		rs.Tables = append(rs.Tables, tb)
	}
	return &rs
}

// testHost has an uplink and a bridge of containers, in both families.
func testHost(rs *Ruleset) Host {
	p := func(s ...string) (out []netip.Prefix) {
		for _, x := range s {
			out = append(out, netip.MustParsePrefix(x))
		}
		return out
	}
	return Host{Rules: rs, Uplinks: []string{"eth0"}, Interfaces: []sluicekeep.Interface{
		{Name: "lo", Loopback: true, Prefixes: p("127.0.0.1/8", "::1/128")},
		{Name: "eth0", Prefixes: p("192.0.2.1/24", "2001:db8:1::1/64")},
		{Name: "docker0", Prefixes: p("172.17.0.1/16", "fd00::1/64")},
	}}
}

// The diagrams and the walker, which share no code, agree on every packet.
func TestDiagramsAgreeWithWalking(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := small{rt, rapid.SampledFrom([]string{"ip", "ip6"}).Draw(rt, "family"), rapid.Bool().Draw(rt, "wild")}
		rs := d.ruleset()
		e := NewEvaluator(testHost(rs))
		if rapid.Bool().Draw(rt, "nesting order") {
			e = UseNestingOrder(testHost(rs))
		}
		if rapid.Bool().Draw(rt, "sweep often") {
			e.SweepOften()
		}
		outside, self := e.From(Zone{Iif: []string{"eth0", "docker0"}}), e.From(Zone{Self: true})
		for range 12 {
			p := Packet{Dst: d.addr("dst"), Src: d.addr("src"), Sport: 40000, Dport: uint16(d.port("port").From.Lo)}
			proto := rapid.SampledFrom([]sluicekeep.Transport{sluicekeep.TCP, sluicekeep.UDP}).Draw(rt, "transport")
			p.Proto = proto.Number()
			p.Iif = rapid.SampledFrom([]string{"eth0", "docker0", "lo"}).Draw(rt, "iif")
			from := outside
			if p.Iif == "lo" {
				from = self
			}
			agree(rt, e, from, Query{p.Dst, sluicekeep.Port{Transport: proto, Number: p.Dport}}, p)
		}
		if e.Err() != nil {
			rt.Fatal(e.Err())
		}
	})
}

func agree(t *rapid.T, e *Evaluator, from *Source, q Query, p Packet) {
	q2 := q
	any := netip.IPv4Unspecified()
	if p.Dst.Is6() {
		any = netip.IPv6Unspecified()
	}
	q2.Dst = any
	got := e.Trace(p)
	for _, q := range []Query{q, q2} {
		lower, upper := e.Accepted(q, from)
		if !e.Possible(q, from).Has(p) {
			continue
		}
		if lower.Has(p) != (got.Reach == sluicekeep.ReachOpen) {
			t.Fatalf("%v to %v: certainly accepted %v, walked %q %+v", p, q, lower.Has(p), got.Reach, got.Steps)
		}
		if upper.Has(p) != (got.Reach == sluicekeep.ReachOpen || got.Reach == sluicekeep.ReachUnknown) {
			t.Fatalf("%v to %v: maybe accepted %v, walked %q %+v", p, q, upper.Has(p), got.Reach, got.Steps)
		}
		a := e.Predict(q, from)
		if a.Sample.Dst.IsValid() && e.Trace(a.Sample).Reach != a.Reach && a.Reach != sluicekeep.ReachFiltered {
			t.Fatalf("predicted %q of %v, walked %+v", a.Reach, a.Sample, e.Trace(a.Sample))
		}
	}
}
