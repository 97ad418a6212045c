package firewall_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	. "github.com/sluicekeep/sluicekeep/firewall"
)

func TestLint(t *testing.T) {
	tcp := Matches(FieldProto, Between(6, 6))
	rs := &Ruleset{Tables: []Table{base("ip", HookInput, 0, Drop,
		rule("established", Accept, state(2)),
		rule("office", Accept, tcp, dport(22), from("10.0.0.0/8")),
		rule("office again", Drop, tcp, dport(22), from("10.1.0.0/16")),
		rule("ssh", Drop, tcp, dport(22)),
		rule("web", Accept, tcp, Matches(FieldDport, Between(80, 90))),
		maybe(rule("limited", Accept, tcp, dport(99))),
		rule("web again", Accept, tcp, dport(85)),
	)}}
	flaws, err := Lint(rs)
	if err != nil {
		t.Fatal(err)
	}
	type brief struct{ Kind, Rule, By string }
	var got []brief
	for _, f := range flaws {
		got = append(got, brief{f.Kind, f.Rule, f.By})
	}
	want := []brief{{Shadowed, "office again", "office"}, {Redundant, "ssh", "policy"}, {Shadowed, "web again", "web"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDifferences(t *testing.T) {
	a := &Ruleset{Tables: []Table{base("ip", HookInput, 0, Drop, rule("a", Accept, Matches(FieldDport, Between(80, 90))))}}
	b := &Ruleset{Tables: []Table{base("ip", HookInput, 0, Drop,
		rule("x", Accept, Matches(FieldDport, Between(85, 90))), rule("y", Accept, Matches(FieldDport, Between(80, 84))))}}
	if d, err := Differences(a, b); err != nil || len(d) > 0 {
		t.Errorf("equal in other words: %+v %v", d, err)
	}
	b.Tables[0].Chains[0].Rules = b.Tables[0].Chains[0].Rules[1:]
	d, err := Differences(a, b)
	if err != nil || len(d) != 1 || d[0].A != "accept" || d[0].B != "drop" {
		t.Fatalf("%+v %v", d, err)
	}
	if got := Eval(a, HookInput, d[0].Witness); got.Verdict != Accept || !got.Sure {
		t.Errorf("%v: %+v", d[0].Witness, got)
	}
	if got := Eval(b, HookInput, d[0].Witness); got.Verdict != Drop || got.Step.Verdict != "policy drop" {
		t.Errorf("%v: %+v", d[0].Witness, got)
	}
}

// Every difference has a witness that walking judges so; and a rule said to
// change nothing can go without a difference.
func TestFlawsChangeNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := small{rt, "ip", rapid.Bool().Draw(rt, "wild")}
		rs := d.ruleset()
		flaws, err := Lint(rs)
		if err != nil {
			rt.Fatal(err)
		}
		for _, f := range flaws {
			if diff, err := Differences(rs, without(rs, f)); err != nil || len(diff) > 0 {
				rt.Fatalf("%+v: %+v %v", f, diff, err)
			}
		}
		other := d.ruleset()
		diffs, err := Differences(rs, other)
		if err != nil {
			rt.Fatal(err)
		}
		for _, x := range diffs {
			if x.A == x.B {
				rt.Fatalf("no difference: %+v", x)
			}
		}
	})
}

// without returns a copy of the rules without a flawed one.
func without(rs *Ruleset, f Flaw) *Ruleset {
	out := &Ruleset{}
	for _, t := range rs.Tables {
		t.Chains = slices.Clone(t.Chains)
		for i := range t.Chains {
			if t.Family+" "+t.Name == f.Table && t.Chains[i].Name == f.Chain {
				t.Chains[i].Rules = slices.Delete(slices.Clone(t.Chains[i].Rules), f.Index, f.Index+1)
			}
		}
		out.Tables = append(out.Tables, t)
	}
	return out
}

func TestSets(t *testing.T) {
	s := NewSpace(0)
	web := s.Packets("ipv4", dport(80), from("10.0.0.0/8"))
	part := s.Packets("ipv4", dport(80), from("10.1.0.0/16"))
	if web.Union(part) != web || web.Intersect(part) != part || !part.Diff(web).IsEmpty() {
		t.Error("10.1.0.0/16 is part of 10.0.0.0/8")
	}
	rest := web.Diff(part)
	p, ok := rest.Witness()
	if !ok || !rest.Has(p) || part.Has(p) || p.Dport != 80 {
		t.Errorf("witness %v", p)
	}
	if got := rest.Union(part); !got.Equal(web) {
		t.Error("parts make the whole")
	}
	if !s.Packets("ipv4", Matches(FieldSrc, Any(), Between(5, 6), Between(7, 7)).Not()).IsEmpty() {
		t.Error("nothing is outside of everything")
	}
	want := []Range{{Uint(0x0a000000), Uint(0x0a00ffff)}, {Uint(0x0a020000), Uint(0x0affffff)}}
	if d := cmp.Diff(want, rest.Sources()); d != "" {
		t.Error(d)
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

// A space that would outgrow its limit says so.
func TestLimit(t *testing.T) {
	s := NewSpace(100)
	sum := s.Packets("ipv4", dport(1))
	for i := range uint64(200) {
		sum = sum.Union(s.Packets("ipv4", dport(2*i), Matches(FieldSrc, Between(i, 2*i))))
	}
	if s.Err() == nil || !sum.IsEmpty() {
		t.Errorf("%v", s.Err())
	}
}

func TestValues(t *testing.T) {
	for _, tt := range []struct {
		got, want Range
	}{
		{Iface("lo"), One(IfaceName("lo"))},
		{Iface("*"), Any()},
		{Prefix(netip.MustParsePrefix("10.1.2.3/8")), Between(0x0a000000, 0x0affffff)},
		{Prefix(netip.MustParsePrefix("0.0.0.0/0")), Between(0, 0xffffffff)},
		{Prefix(netip.MustParsePrefix("::/0")), Any()},
	} {
		if tt.got != tt.want {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
	eth := Iface("eth+")
	for name, want := range map[string]bool{"eth": true, "eth0": true, "et": false, "fth": false} {
		if eth.Has(IfaceName(name)) != want {
			t.Errorf("eth+ has %s: %v", name, !want)
		}
	}
	if long := Iface("verylongna*"); !long.Has(IfaceName("verylongname0")) || long.Has(IfaceName("verylongn")) {
		t.Errorf("%v", long)
	}
}

func BenchmarkLint(b *testing.B) {
	for name, shape := range shapes() {
		b.Run(name+"/5000", func(b *testing.B) {
			rs := &Ruleset{Tables: []Table{base("ip", HookInput, 0, Drop, shape(rand.New(rand.NewPCG(1, 1)), 5000)...)}}
			for b.Loop() {
				if _, err := Lint(rs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDifferences(b *testing.B) {
	for name, shape := range shapes() {
		for _, n := range []int{1000, 10000} {
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				rules := shape(rand.New(rand.NewPCG(1, 1)), n)
				x := &Ruleset{Tables: []Table{base("ip", HookInput, 0, Drop, rules...)}}
				y := &Ruleset{Tables: []Table{base("ip", HookInput, 0, Drop, slices.Delete(slices.Clone(rules), n/2, n/2+1)...)}}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Differences(x, y); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
