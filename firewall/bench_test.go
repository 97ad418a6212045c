package firewall_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/sluicekeep/sluicekeep"
	. "github.com/sluicekeep/sluicekeep/firewall"
)

// ufwDocker is a host as they are found: ufw in front of docker with some
// published containers, in iptables, both families.
func ufwDocker(published int) *Ruleset {
	port := func(n uint64) Match { return Matches(FieldDport, Between(n, n)) }
	tcp := Matches(FieldProto, One(Uint(6)))
	states := func(s ...uint64) Match {
		var rs []Range
		for _, n := range s {
			rs = append(rs, One(Uint(n)))
		}
		return Matches(FieldState, rs...)
	}
	call := func(name string, m ...Match) Rule {
		return Rule{Text: "-j " + name, Matches: m, Action: Action{Verdict: Jump, Chain: name}}
	}
	do := func(v Verdict, m ...Match) Rule {
		return Rule{Text: fmt.Sprint(v), Matches: m, Action: Action{Verdict: v}}
	}
	in := Chain{Name: "INPUT", Hook: HookInput, Type: "filter", Policy: Drop}
	chains := []Chain{}
	for _, n := range []string{"before-logging", "before", "after", "after-logging", "reject", "track"} {
		in.Rules = append(in.Rules, call("ufw-"+n+"-input"))
	}
	before := Chain{Name: "ufw-before-input", Rules: []Rule{
		do(Accept, Matches(FieldIif, Iface("lo"))), do(Accept, states(2, 4)), do(Drop, states(8)),
		do(Accept, Matches(FieldProto, One(Uint(1))), Matches(FieldSport, One(Uint(8)))),
		do(Accept, Matches(FieldProto, One(Uint(17))), Matches(FieldSport, One(Uint(67))), port(68)),
		call("ufw-not-local"),
		do(Accept, Matches(FieldProto, One(Uint(17))), to("224.0.0.251/32"), port(5353)),
		call("ufw-user-input"),
	}}
	notLocal := Chain{Name: "ufw-not-local", Rules: []Rule{
		do(Return, Matches(FieldDstType, One(Uint(2)))), do(Return, Matches(FieldDstType, One(Uint(5)))),
		do(Return, Matches(FieldDstType, One(Uint(3)))),
		{Text: "limit drop", Unknown: []string{"limit"}, Action: Action{Verdict: Drop}},
		do(Drop),
	}}
	user := Chain{Name: "ufw-user-input"}
	for i := range uint64(30) {
		user.Rules = append(user.Rules, do(Accept, tcp, port(2000+i*7)))
		user.Rules = append(user.Rules, do(Accept, tcp, port(5000+i*7), from(fmt.Sprintf("10.%d.0.0/16", i))))
	}
	chains = append(chains, in, before, notLocal, user,
		Chain{Name: "ufw-before-logging-input"}, Chain{Name: "ufw-after-input"},
		Chain{Name: "ufw-after-logging-input"}, Chain{Name: "ufw-reject-input"}, Chain{Name: "ufw-track-input"})
	fwd := Chain{Name: "FORWARD", Hook: HookForward, Type: "filter", Policy: Drop}
	fwd.Rules = append(fwd.Rules, do(Accept, states(2, 4), Matches(FieldOif, Iface("docker0"))),
		call("DOCKER", Matches(FieldOif, Iface("docker0"))), do(Accept, Matches(FieldIif, Iface("docker0"))))
	docker, nat := Chain{Name: "DOCKER"}, Chain{Name: "DOCKER"}
	for i := range uint64(published) {
		to := netip.AddrFrom4([4]byte{172, 17, byte(i / 250), byte(2 + i%250)})
		docker.Rules = append(docker.Rules, do(Accept,
			Matches(FieldDst, One(Addr(to))), iif("docker0").Not(), oif("docker0"), tcp, port(80)))
		nat.Rules = append(nat.Rules, Rule{
			Text: "dnat", Matches: []Match{Matches(FieldIif, Iface("docker0")).Not(), tcp, port(8000 + i)},
			Action: Action{Verdict: DNAT, To: []Range{One(Addr(to))}, ToPort: []Range{Between(80, 80)}},
		})
	}
	pre := Chain{
		Name: "PREROUTING", Hook: HookPrerouting, Type: "nat", Priority: -100, Policy: Accept,
		Rules: []Rule{call("DOCKER", Matches(FieldDstType, One(Uint(2))))},
	}
	rs := &Ruleset{Tables: []Table{
		{Store: StoreIPTablesNFT, Family: "ip", Name: "filter", Chains: append(chains, fwd, docker)},
		{Store: StoreIPTablesNFT, Family: "ip", Name: "nat", Chains: []Chain{pre, nat}},
		{Store: StoreIPTablesNFT, Family: "ip6", Name: "filter", Chains: chains},
	}}
	return rs
}

// endpoints makes n queries in both families.
func endpoints(n int) []Query {
	var out []Query
	for i := range n {
		dst := netip.IPv4Unspecified()
		switch i % 4 {
		case 1:
			dst = netip.IPv6Unspecified()
		case 2:
			dst = netip.MustParseAddr("192.0.2.1")
		}
		out = append(out, Query{dst, sluicekeep.Port{Transport: sluicekeep.TCP, Number: uint16(1000 + i*5)}})
	}
	return out
}

func zones(e *Evaluator) []*Source {
	seg := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/64")}
	org := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	all := append(append([]netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}, seg...), org...)
	return []*Source{
		e.From(Zone{Self: true}), e.From(Zone{In: seg}), e.From(Zone{In: org, Except: seg}), e.From(Zone{Except: all}),
	}
}

func BenchmarkStatus(b *testing.B) {
	for _, n := range []int{100, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				e := NewEvaluator(testHost(ufwDocker(20)))
				zs := zones(e)
				for _, q := range endpoints(n) {
					e.Declared(q)
					for _, z := range zs {
						e.Predict(q, z)
					}
				}
				if e.Err() != nil {
					b.Fatal(e.Err())
				}
			}
		})
	}
}

// A host whose filter also holds a list of 10,000 blocked nets, rule by rule.
func BenchmarkStatusBehindBlocklist(b *testing.B) {
	rules := shapes()["blocklist"](rand.New(rand.NewPCG(1, 1)), 10000)
	for b.Loop() {
		rs := ufwDocker(20)
		in := &rs.Tables[0].Chains[0]
		in.Rules = append(slices.Clone(rules), in.Rules...)
		e := NewEvaluator(testHost(rs))
		zs := zones(e)
		for _, q := range endpoints(2000) {
			e.Declared(q)
			for _, z := range zs {
				e.Predict(q, z)
			}
		}
		if e.Err() != nil {
			b.Fatal(e.Err())
		}
	}
}

// 5,000 rules, one probe: what rules eval pays for a line.
func BenchmarkEval(b *testing.B) {
	rules := shapes()["router"](rand.New(rand.NewPCG(1, 1)), 5000)
	rs := &Ruleset{Tables: []Table{base("ip", HookInput, 0, Drop, rules...)}}
	p := packetTo("192.0.2.1", 80)
	for b.Loop() {
		Eval(rs, HookInput, p)
	}
}

// shapes of long rule sets, as they grow in life.
func shapes() map[string]func(*rand.Rand, int) []Rule {
	addr := func(r *rand.Rand) netip.Addr {
		return netip.AddrFrom4([4]byte{byte(1 + r.IntN(200)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
	}
	prefix := func(r *rand.Rand, min int) Range {
		p, _ := addr(r).Prefix(min + r.IntN(33-min))
		return Prefix(p)
	}
	port := func(r *rand.Rand) Match {
		from := uint64(r.IntN(65000))
		return Matches(FieldDport, Between(from, from+uint64(r.IntN(3)/2*r.IntN(500))))
	}
	verdict := func(r *rand.Rand) Action { return Action{Verdict: []Verdict{Accept, Drop, Reject}[r.IntN(3)]} }
	tcp := func(r *rand.Rand) Match { return Matches(FieldProto, One(Uint([]uint64{6, 17}[r.IntN(2)]))) }
	return map[string]func(*rand.Rand, int) []Rule{
		"blocklist": func(r *rand.Rand, n int) (out []Rule) {
			for range n {
				out = append(out, Rule{Matches: []Match{Matches(FieldSrc, prefix(r, 20))}, Action: Action{Verdict: Drop}})
			}
			for range 60 {
				out = append(out, Rule{Matches: []Match{tcp(r), port(r)}, Action: Action{Verdict: Accept}})
			}
			return out
		},
		"allowlist": func(r *rand.Rand, n int) (out []Rule) {
			for range n {
				out = append(out, rule("a", Accept, Matches(FieldSrc, prefix(r, 24)), tcp(r), port(r)))
			}
			return out
		},
		"router": func(r *rand.Rand, n int) (out []Rule) {
			for range n {
				out = append(out, Rule{Matches: []Match{
					Matches(FieldSrc, prefix(r, 16)), Matches(FieldDst, prefix(r, 24)), tcp(r), port(r),
				}, Action: verdict(r)})
			}
			return out
		},
		"tangle": func(r *rand.Rand, n int) (out []Rule) { // wide ranges in every field, crossing each other
			for range n {
				from := uint64(r.IntN(60000))
				out = append(out, Rule{Matches: []Match{
					Matches(FieldSrc, prefix(r, 4)), Matches(FieldDst, prefix(r, 4)), tcp(r),
					Matches(FieldDport, Between(from, from+uint64(r.IntN(5000)))),
				}, Action: verdict(r)})
			}
			return out
		},
		"ports": func(r *rand.Rand, n int) (out []Rule) {
			for range n {
				out = append(out, Rule{Matches: []Match{tcp(r), port(r)}, Action: verdict(r)})
			}
			return out
		},
		"few": func(r *rand.Rand, n int) (out []Rule) { // few nets, few services, many combinations
			nets := []Range{}
			for range 40 {
				nets = append(nets, prefix(r, 8))
			}
			for range n {
				out = append(out, Rule{Matches: []Match{
					Matches(FieldSrc, nets[r.IntN(40)]), Matches(FieldDst, nets[r.IntN(40)]), tcp(r),
					Matches(FieldDport, Between(uint64(r.IntN(50)), 50)),
				}, Action: verdict(r)})
			}
			return out
		},
	}
}

func BenchmarkCompile(b *testing.B) {
	for name, shape := range shapes() {
		for _, n := range []int{1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				rules := shape(rand.New(rand.NewPCG(1, uint64(n))), n)
				rs := &Ruleset{Tables: []Table{{Family: "ip", Name: "filter", Chains: []Chain{
					{Name: "INPUT", Hook: HookInput, Type: "filter", Policy: Drop, Rules: rules},
				}}}}
				for b.Loop() {
					runtime.GC()
					var m runtime.MemStats
					e := NewEvaluator(testHost(rs))
					e.Declared(Query{netip.IPv4Unspecified(), sluicekeep.Port{Transport: sluicekeep.TCP, Number: 80}})
					runtime.ReadMemStats(&m)
					b.ReportMetric(float64(m.HeapSys)/1e6, "heapMB")
					if e.Err() != nil {
						b.Fatal(e.Err())
					}
				}
			})
		}
	}
}
