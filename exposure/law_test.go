package exposure_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/exposure"
	"github.com/sluicekeep/sluicekeep/firewall"
)

func listeners() *rapid.Generator[[]sluicekeep.Listener] {
	one := rapid.Custom(func(t *rapid.T) sluicekeep.Listener {
		a := rapid.SampledFrom([]string{"0.0.0.0", "::", "127.0.0.1", "10.0.0.5", "::1", "fe80::5", "::ffff:10.0.0.5", "172.17.0.2"}).Draw(t, "address")
		exe := rapid.SampledFrom([]string{"nginx", "sshd", "docker-proxy"}).Draw(t, "exe")
		p := sluicekeep.Port{
			Transport: rapid.SampledFrom([]sluicekeep.Transport{sluicekeep.TCP, sluicekeep.UDP, "icmp"}).Draw(t, "transport"),
			Number:    rapid.Uint16Range(0, 6).Draw(t, "port"),
		}
		l := listen(a, exe, p)
		l.V6Only = rapid.Bool().Draw(t, "v6only")
		l.Process.PID = rapid.IntRange(1, 5).Draw(t, "pid")
		l.Process.Exe = exe + string(rune('0'+l.Process.PID)) // a process has one executable
		l.Interface = rapid.SampledFrom([]string{"", "", "lo", "eth0"}).Draw(t, "interface")
		l.Namespace = rapid.SampledFrom([]uint64{hostNS, hostNS, containerNS}).Draw(t, "namespace")
		return l
	})
	return rapid.SliceOfN(one, 0, 8)
}

func rulesets() *rapid.Generator[*firewall.Ruleset] {
	verdict := rapid.SampledFrom([]firewall.Verdict{firewall.Accept, firewall.Drop, firewall.Reject})
	return rapid.Custom(func(t *rapid.T) *firewall.Ruleset {
		rs := &firewall.Ruleset{}
		for range rapid.IntRange(0, 3).Draw(t, "tables") {
			store := rapid.SampledFrom([]firewall.Store{
				firewall.StoreNFTables, firewall.StoreIPTablesNFT, firewall.StoreIPTablesLegacy,
			}).Draw(t, "store")
			family := rapid.SampledFrom([]string{"ip", "ip6", "inet"}).Draw(t, "family")
			policy := rapid.SampledFrom([]firewall.Verdict{firewall.Accept, firewall.Drop}).Draw(t, "policy")
			tab := input(store, family, policy)
			for range rapid.IntRange(0, 4).Draw(t, "rules") {
				p := tcp(rapid.Uint16Range(1, 6).Draw(t, "dport"))
				tab.Chains[0].Rules = append(tab.Chains[0].Rules, rule(verdict.Draw(t, "verdict"), p))
			}
			rs.Tables = append(rs.Tables, tab)
		}
		if rapid.Bool().Draw(t, "docker") {
			rs.Tables = append(rs.Tables, docker(rapid.Uint16Range(1, 6).Draw(t, "published"), 6))
		}
		return rs
	})
}

// The fold does not depend on the order of the facts; every socket of the host
// has its rows; rows are unique and sorted; predictions follow the address.
func TestFoldLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ls, rules := listeners().Draw(t, "listeners"), rulesets().Draw(t, "rules")
		rows := exposure.Fold(newFacts(rules, ls...))
		shuffled := rapid.Permutation(ls).Draw(t, "shuffled")
		if diff := cmp.Diff(rows, exposure.Fold(newFacts(rules, shuffled...)), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Fatalf("the order of listeners matters:\n%s", diff)
		}
		seen := map[sluicekeep.Endpoint]sluicekeep.Profile{}
		for _, r := range rows {
			if _, twice := seen[r.Endpoint()]; twice {
				t.Fatalf("two rows of %s", r.Endpoint())
			}
			seen[r.Endpoint()] = r
			checkRow(t, r)
		}
		for _, l := range ls {
			checkListener(t, seen, l)
		}
	})
}

func checkRow(t *rapid.T, r sluicekeep.Profile) {
	if r.Number == 0 || r.Contradictions == nil || r.Family != sluicekeep.FamilyOf(r.Address) || r.Address.Is4In6() {
		t.Fatalf("malformed row %+v", r)
	}
	if r.Address.IsLoopback() && (r.Predicted.Internet == sluicekeep.ReachOpen || r.Predicted.Segment == sluicekeep.ReachOpen) {
		t.Fatalf("loopback is predicted open: %+v", r)
	}
	if r.Held != nil && !*r.Held && r.Predicted.Internet == sluicekeep.ReachOpen {
		t.Fatalf("open, and nobody is there: %+v", r)
	}
	if r.Reachable != (sluicekeep.Reaches{}) {
		t.Fatalf("reachable without a probe: %+v", r)
	}
}

func checkListener(t *rapid.T, seen map[sluicekeep.Endpoint]sluicekeep.Profile, l sluicekeep.Listener) {
	if l.Number == 0 || l.Transport.Number() == 0 || l.Namespace != hostNS {
		return
	}
	at := []netip.Addr{l.Address.Unmap()}
	if l.Address == netip.IPv6Unspecified() && !l.V6Only {
		at = append(at, netip.IPv4Unspecified())
	}
	for _, a := range at {
		if _, ok := seen[sluicekeep.Endpoint{Asset: "web-01", Address: a, Port: l.Port}]; !ok {
			t.Fatalf("no row for %s %s", a, l.Port)
		}
	}
}
