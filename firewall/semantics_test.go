package firewall_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicekeep/sluicekeep"
	. "github.com/sluicekeep/sluicekeep/firewall"
)

// base makes a base chain of a table of its own.
func base(family string, hook Hook, priority int, policy Verdict, rules ...Rule) Table {
	return Table{
		Store: StoreNFTables, Family: family, Name: fmt.Sprint(hook, priority), Writer: "hand",
		Chains: []Chain{{
			Name: strings.ToUpper(string(hook)), Hook: hook, Type: "filter",
			Priority: priority, Policy: policy, Rules: rules,
		}},
	}
}

// natTable makes a prerouting nat chain.
func natTable(rules ...Rule) Table {
	t := base("ip", HookPrerouting, -100, Accept, rules...)
	t.Chains[0].Type, t.Writer = "nat", "docker"
	return t
}

func natAt(priority int, rules ...Rule) Table {
	t := natTable(rules...)
	t.Chains[0].Priority = priority
	return t
}

func rule(text string, v Verdict, m ...Match) Rule {
	return Rule{Text: text, Matches: m, Action: Action{Verdict: v}}
}

func jump(chain string) Rule {
	return Rule{Text: "jump " + chain, Action: Action{Verdict: Jump, Chain: chain}}
}

func gotoChain(chain string) Rule {
	return Rule{Text: "goto " + chain, Action: Action{Verdict: Goto, Chain: chain}}
}

// packetTo is a packet from the internet, through the uplink.
func packetTo(dst string, port uint16) Packet {
	return Packet{
		Src: netip.MustParseAddr("198.51.100.7"), Dst: netip.MustParseAddr(dst),
		Proto: 6, Sport: 40000, Dport: port, Iif: "eth0",
	}
}

func in(prefixes ...string) (z Zone) {
	for _, p := range prefixes {
		z.In = append(z.In, netip.MustParsePrefix(p))
	}
	return z
}

func to(prefix string) Match { return Matches(FieldDst, Prefix(netip.MustParsePrefix(prefix))) }

func dnat(to string, port uint64, m ...Match) Rule {
	return Rule{Text: "dnat " + to, Matches: m, Action: Action{
		Verdict: DNAT, To: []Range{One(Addr(netip.MustParseAddr(to)))}, ToPort: []Range{Between(port, port)},
	}}
}

func dport(n uint64) Match           { return Matches(FieldDport, Between(n, n)) }
func from(prefix string) Match       { return Matches(FieldSrc, Prefix(netip.MustParsePrefix(prefix))) }
func iif(name string) Match          { return Matches(FieldIif, Iface(name)) }
func oif(name string) Match          { return Matches(FieldOif, Iface(name)) }
func state(n uint64) Match           { return Matches(FieldState, Between(n, n)) }
func maybe(r Rule) Rule              { r.Unknown = []string{"limit"}; return r }
func with(t Table, c ...Chain) Table { t.Chains = append(t.Chains, c...); return t }

func query(dst string, port uint16) Query {
	return Query{netip.MustParseAddr(dst), sluicekeep.Port{Transport: sluicekeep.TCP, Number: port}}
}

const (
	open     = sluicekeep.ReachOpen
	closed   = sluicekeep.ReachClosed
	filtered = sluicekeep.ReachFiltered
	unknown  = sluicekeep.ReachUnknown
)

// What is declared, and what is predicted for the internet, a neighbour and
// the host itself.
func TestSemantics(t *testing.T) {
	type want struct {
		declared                 sluicekeep.Declared
		internet, neighbour, own sluicekeep.Reach
	}
	v4, redis := "0.0.0.0", uint16(6379)
	tests := []struct {
		name   string
		tables []Table
		dst    string
		port   uint16
		want   want
	}{
		{"no rules at all", nil, v4, redis, want{"none", open, open, open}},
		{"empty chains that accept", []Table{base("inet", HookInput, 0, Accept)}, v4, redis, want{"none", open, open, open}},
		{"policy drop", []Table{base("inet", HookInput, 0, Drop)}, v4, redis, want{"closed", filtered, filtered, filtered}},
		{
			"policy drop of the other family",
			[]Table{base("ip6", HookInput, 0, Drop)},
			v4, redis,
			want{"none", open, open, open},
		},
		{
			"loopback accepted",
			[]Table{base("ip", HookInput, 0, Drop, rule("lo", Accept, iif("lo")))},
			v4, redis,
			want{"closed", filtered, filtered, open},
		},
		{
			"reject is closed",
			[]Table{base("ip", HookInput, 0, Accept, rule("r", Reject, dport(6379)))},
			v4, redis,
			want{"closed", closed, closed, closed},
		},
		{
			"a neighbour port stays open",
			[]Table{base("ip", HookInput, 0, Accept, rule("r", Reject, dport(6379)))},
			v4, 6380,
			want{"open", open, open, open},
		},
		{
			"one net only",
			[]Table{base("ip", HookInput, 0, Drop, rule("a", Accept, dport(6379), from("192.0.2.0/24")))},
			v4, redis,
			want{"partial", filtered, open, open},
		},
		{
			"first match wins",
			[]Table{base("ip", HookInput, 0, Drop, rule("a", Accept, dport(6379)), rule("d", Drop))},
			v4, redis,
			want{"open", open, open, open},
		},
		{"accept is final in its own base chain only", []Table{
			base("inet", HookInput, -10, Accept, rule("a", Accept)),
			base("ip", HookInput, 0, Accept, rule("d", Drop, dport(6379))),
		}, v4, redis, want{"closed", filtered, filtered, filtered}},
		{
			"established rules do not open",
			[]Table{base("ip", HookInput, 0, Drop, rule("e", Accept, state(2)))},
			v4, redis,
			want{"closed", filtered, filtered, filtered},
		},
		{"before conntrack nothing is new, but through the loopback", []Table{
			base("ip", HookPrerouting, -300, Accept, rule("n", Drop, state(1))),
		}, v4, redis, want{"open", open, open, filtered}},
		{"nat chains run at one place, and accept there ends only itself", []Table{
			natAt(-190, rule("a", Accept)),
			natAt(-180, dnat("172.17.0.2", 80, dport(6379))),
			base("ip", HookPrerouting, -150, Accept, rule("d", Drop, dport(80))),
			base("ip", HookForward, 0, Drop, rule("f", Accept, dport(80))),
		}, v4, redis, want{"open", open, open, open}},
		{
			"drop in raw prerouting",
			[]Table{base("ip", HookPrerouting, -300, Accept, rule("d", Drop, dport(6379)))},
			v4, redis,
			want{"closed", filtered, filtered, filtered},
		},
		{
			"unknown match on a drop",
			[]Table{base("ip", HookInput, 0, Accept, maybe(rule("l", Drop, dport(6379))))},
			v4, redis,
			want{"unknown", unknown, unknown, unknown},
		},
		{
			"unknown match, decided all the same",
			[]Table{base("ip", HookInput, 0, Accept, maybe(rule("l", Drop)), rule("d", Drop))},
			v4, redis,
			want{"closed", filtered, filtered, filtered},
		},
		{
			"sure of some sources only",
			[]Table{base("ip", HookInput, 0, Drop, rule("a", Accept, from("192.0.2.0/24")), maybe(rule("l", Accept)))},
			v4, redis,
			want{"partial", unknown, open, open},
		},
		{
			"queue",
			[]Table{base("ip", HookInput, 0, Accept, rule("q", Queue))},
			v4, redis,
			want{"unknown", unknown, unknown, unknown},
		},
		{
			"jump and return",
			[]Table{with(base("ip", HookInput, 0, Drop, jump("x"),
				rule("a", Accept)), Chain{Name: "x", Rules: []Rule{rule("ret", Return), rule("d", Drop)}})},
			v4, redis,
			want{"open", open, open, open},
		},
		{"goto does not come back", []Table{with(base("ip", HookInput, 0, Drop, gotoChain("x"),
			rule("a", Accept)), Chain{Name: "x"})}, v4, redis, want{"closed", filtered, filtered, filtered}},
		{"jump to a chain that goes", []Table{with(base("ip", HookInput, 0, Drop, jump("x"),
			rule("a", Accept)), Chain{Name: "x", Rules: []Rule{gotoChain("y"), rule("d", Drop)}},
			Chain{Name: "y"})}, v4, redis, want{"open", open, open, open}},
		{
			"jump in circles is not believed",
			[]Table{with(base("ip", HookInput, 0, Drop, jump("x")),
				Chain{Name: "x", Rules: []Rule{jump("x")}})},
			v4, redis,
			want{"unknown", unknown, unknown, unknown},
		},
		{"verdict map", []Table{base("ip", HookInput, 0, Drop, Rule{Action: Action{Map: &Map{
			Fields: []Field{FieldDport}, Entries: []MapEntry{{[]Range{Between(6379, 6379)}, Action{Verdict: Accept}}},
		}}})}, v4, redis, want{"open", open, open, open}},
		{"published past ufw", []Table{
			natTable(dnat("172.17.0.2", 80, dport(6379))),
			base("ip", HookInput, 0, Drop),
			base("ip", HookForward, 0, Drop, rule("docker", Accept, oif("docker0"), dport(80))),
		}, v4, redis, want{"closed", open, open, filtered}},
		{"published, but forward says no", []Table{
			natTable(dnat("172.17.0.2", 80, dport(6379))),
			base("ip", HookForward, 0, Drop, rule("other", Accept, oif("eth0"))),
		}, v4, redis, want{"none", filtered, filtered, open}},
		{"ours, before nat, sees the original port", []Table{
			natTable(dnat("172.17.0.2", 80, dport(6379))),
			base("inet", HookPrerouting, -150, Accept, rule("cut", Reject, Matches(FieldDstType, Between(2, 2)), dport(6379))),
		}, v4, redis, want{"closed", closed, closed, closed}},
		{"after nat the old port is gone", []Table{
			natTable(dnat("172.17.0.2", 80, dport(6379))),
			base("ip", HookPrerouting, 0, Accept, rule("d", Drop, dport(6379))),
		}, v4, redis, want{"closed", open, open, filtered}},
		{"conntrack remembers the port", []Table{
			natTable(dnat("172.17.0.2", 80, dport(6379))),
			base("ip", HookForward, 0, Accept, rule("d", Reject, Matches(FieldCTDport, Between(6379, 6379)),
				Matches(FieldCTStatus, Between(32, 32)))),
		}, v4, redis, want{"none", closed, closed, open}},
		{"redirect to another port of the host", []Table{
			natTable(Rule{Text: "redir", Matches: []Match{dport(80)}, Action: Action{
				Verdict: Redirect, ToPort: []Range{Between(8080, 8080)},
			}}),
			base("ip", HookInput, 0, Drop, rule("a", Accept, dport(8080))),
		}, v4, 80, want{"closed", open, open, filtered}},
		{"loopback is not reached from outside", nil, "127.0.0.1", redis, want{"none", filtered, filtered, open}},
		{
			"interface rule that a self-probe cannot see",
			[]Table{base("ip", HookInput, 0, Accept, rule("d", Drop, iif("eth0"), dport(6379)))},
			"192.0.2.1", redis,
			want{"partial", filtered, filtered, open},
		},
		{"marks are zero where nobody sets them", []Table{base("ip", HookInput, 0, Accept,
			rule("m", Drop, Matches(FieldMark, Between(1, 9))))}, v4, redis, want{"open", open, open, open}},
		{
			"marks that somebody sets are unknown",
			[]Table{base("ip", HookInput, 0, Accept,
				Rule{Action: Action{Marks: true}}, rule("m", Drop, Matches(FieldMark, Between(1, 9))))},
			v4, redis,
			want{"unknown", unknown, unknown, unknown},
		},
		{"v6 alone open", []Table{base("ip", HookInput, 0, Drop)}, "::", 80, want{"none", open, open, open}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := NewEvaluator(testHost(&Ruleset{Tables: tt.tables}))
			q := query(tt.dst, tt.port)
			near := e.From(in("192.0.2.0/24", "2001:db8:1::/64"))
			far := e.From(in("198.51.100.0/24", "2001:db8:2::/64"))
			self := e.From(Zone{Self: true})
			got := want{e.Declared(q), e.Predict(q, far).Reach, e.Predict(q, near).Reach, e.Predict(q, self).Reach}
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(want{})); d != "" {
				t.Error(d)
			}
			for _, z := range []*Source{near, far} {
				a := e.Predict(q, z)
				if walked := e.Trace(a.Sample); a.Reach != walked.Reach {
					t.Errorf("sample %v: predicted %q, walked %+v", a.Sample, a.Reach, walked)
				}
			}
		})
	}
}

// A source comes in where the longest route to it leads, and a rewritten packet
// leaves there.
func TestRoutes(t *testing.T) {
	rs := &Ruleset{Tables: []Table{
		natTable(dnat("10.8.0.9", 80, dport(6379))),
		base("ip", HookInput, 0, Drop, rule("vpn", Accept, iif("wg0"))),
		base("ip", HookForward, 0, Drop, rule("pod", Accept, oif("cali7"))),
	}}
	h := testHost(rs)
	h.Routes = []Route{
		{netip.MustParsePrefix("10.8.0.0/16"), "wg0"}, {netip.MustParsePrefix("10.8.0.9/32"), "cali7"},
	}
	e := NewEvaluator(h)
	for prefix, want := range map[string]sluicekeep.Reach{
		"10.8.3.0/24": open, "10.8.0.9/32": filtered, "10.9.0.0/24": filtered,
	} {
		if got := e.Predict(query("0.0.0.0", 80), e.From(in(prefix))).Reach; got != want {
			t.Errorf("from %s: %q", prefix, got)
		}
	}
	if got := e.Predict(query("0.0.0.0", 6379), e.From(in("198.51.100.0/24"))).Reach; got != open {
		t.Errorf("forwarded to the pod: %q", got)
	}
}

// Stores that could not be read take certainty from what passes, not from
// what is dropped.
func TestUnreadable(t *testing.T) {
	rs := &Ruleset{Unreadable: []string{"iptables-legacy: permission denied"}, Tables: []Table{
		base("ip", HookInput, 0, Accept, rule("d", Drop, dport(80))),
	}}
	e := NewEvaluator(testHost(rs))
	all := e.From(Zone{})
	if got := e.Predict(query("0.0.0.0", 80), all).Reach; got != filtered {
		t.Errorf("dropped: %q", got)
	}
	if got := e.Predict(query("0.0.0.0", 81), all).Reach; got != unknown {
		t.Errorf("accepted by what was read: %q", got)
	}
	if got := e.Declared(query("::", 81)); got != sluicekeep.DeclaredUnknown {
		t.Errorf("nothing read: %q", got)
	}
}

// Trace tells the whole way, and marks the one step that decides.
func TestTrace(t *testing.T) {
	rs := &Ruleset{Tables: []Table{
		natTable(dnat("172.17.0.2", 80, dport(6379))),
		base("ip", HookInput, 0, Drop),
		base("ip", HookForward, 0, Drop, rule("-o docker0 -j ACCEPT", Accept, oif("docker0"))),
	}}
	got := NewEvaluator(testHost(rs)).Trace(packetTo("192.0.2.1", 6379))
	want := Trace{open, []sluicekeep.PathStep{
		{
			Hook: "prerouting", Priority: -100, Store: "nftables", Table: "ip prerouting-100", Chain: "PREROUTING",
			Writer: "docker", Rule: "dnat 172.17.0.2", Verdict: "dnat 172.17.0.2:80",
		},
		{Hook: "routing", Store: "kernel", Rule: "to 172.17.0.2 through docker0", Verdict: "forward"},
		{
			Hook: "forward", Store: "nftables", Table: "ip forward0", Chain: "FORWARD", Writer: "hand",
			Rule: "-o docker0 -j ACCEPT", Verdict: "accept", Decides: true,
		},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPublished(t *testing.T) {
	local := Matches(FieldDstType, Between(2, 2))
	rs := &Ruleset{Tables: []Table{natTable(
		dnat("172.17.0.2", 80, local, Matches(FieldProto, Between(6, 6)), dport(6379)),
		dnat("172.17.0.3", 81, to("192.0.2.1/32"), Matches(FieldProto, Between(17, 17)), dport(53)),
		dnat("172.17.0.9", 99, local, Matches(FieldProto, Between(6, 6)), dport(6379)), // never reached
	)}}
	got := NewEvaluator(testHost(rs)).Published()
	want := []Publication{
		{
			Family: sluicekeep.IPv4, Proto: 6, Dport: 6379, Last: 6379,
			To: netip.MustParseAddr("172.17.0.2"), ToPort: 80, Rule: "dnat 172.17.0.2", Writer: "docker",
		},
		{
			Family: sluicekeep.IPv4, Dst: netip.MustParseAddr("192.0.2.1"), Proto: 17, Dport: 53, Last: 53,
			To: netip.MustParseAddr("172.17.0.3"), ToPort: 81, Rule: "dnat 172.17.0.3", Writer: "docker",
		},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestExplicitOpens(t *testing.T) {
	tcp := Matches(FieldProto, Between(6, 6))
	rs := &Ruleset{Tables: []Table{with(base("ip", HookInput, 0, Drop,
		rule("wide", Accept, tcp, Matches(FieldDport, Between(1024, 65535))),
		rule("all", Accept, iif("lo")),
		jump("user"),
		Rule{Text: "vmap", Matches: []Match{tcp}, Action: Action{Map: &Map{Fields: []Field{FieldDport}, Entries: []MapEntry{
			{[]Range{Between(22, 22)}, Action{Verdict: Accept}}, {[]Range{Between(23, 23)}, Action{Verdict: Drop}},
		}}}},
	), Chain{Name: "user", Rules: []Rule{rule("https", Accept, tcp, dport(443)), rule("no", Drop, tcp, dport(80))}})}}
	want := []Opening{
		{Family: sluicekeep.IPv4, Proto: 6, From: 22, To: 22, Rule: "vmap", Table: "input0", Writer: "hand"},
		{Family: sluicekeep.IPv4, Proto: 6, From: 443, To: 443, Rule: "https", Table: "input0", Writer: "hand"},
	}
	if d := cmp.Diff(want, NewEvaluator(testHost(rs)).ExplicitOpens()); d != "" {
		t.Error(d)
	}
}

// Long rule sets are compiled in pieces, with nodes swept in between; every
// packet still has the fate that walking gives it.
func TestLongRulesAgreeWithWalking(t *testing.T) {
	for name, shape := range shapes() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 7))
			rules := shape(r, 4000)
			rs := &Ruleset{Tables: []Table{base("ip", HookInput, 0, Drop, rules...)}}
			h := testHost(rs)
			h.Interfaces = nil
			e := NewEvaluator(h)
			all := e.From(Zone{Iif: []string{"*"}})
			for range 1500 {
				p := onBounds(r, rules[r.IntN(len(rules))])
				q := Query{p.Dst, sluicekeep.Port{Transport: sluicekeep.TCP, Number: p.Dport}}
				lower, _ := e.Accepted(q, all)
				if got := e.Trace(p).Reach == open; e.Possible(q, all).Has(p) && lower.Has(p) != got {
					t.Fatalf("%v: walked open %v", p, got)
				}
			}
			if e.Err() != nil {
				t.Fatal(e.Err())
			}
		})
	}
}

// onBounds draws a packet at the bounds of a rule.
func onBounds(r *rand.Rand, rule Rule) Packet {
	p := packetTo("192.0.2.1", 80)
	for _, m := range rule.Matches {
		x := m.Boxes[0][0]
		v := []Value{x.From, x.To, x.To.Next(), x.From.Prev()}[r.IntN(4)]
		switch m.Fields[0] {
		case FieldSrc:
			p.Src = v.Addr(4)
		case FieldDst:
			p.Dst = v.Addr(4)
		case FieldDport:
			p.Dport = uint16(v.Lo)
		}
	}
	return p
}
