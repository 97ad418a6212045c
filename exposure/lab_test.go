package exposure_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/exposure"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// A small host, made of Go values: eth0 with two global addresses, and a
// container behind docker0.
const (
	hostNS      = 4026531840
	containerNS = 4026532100
)

func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// newFacts describes the host with some rules and listeners.
func newFacts(rules *firewall.Ruleset, ls ...sluicekeep.Listener) exposure.Facts {
	return exposure.Facts{
		Asset: "web-01", At: noon(), Namespace: hostNS, Listeners: ls,
		Addresses: map[uint64][]netip.Addr{containerNS: {addr("172.17.0.2")}},
		Host: firewall.Host{
			Rules: rules, Uplinks: []string{"eth0"},
			Interfaces: []sluicekeep.Interface{
				{Name: "lo", Loopback: true, Up: true, Prefixes: prefixes("127.0.0.1/8", "::1/128")},
				{Name: "eth0", Up: true, Prefixes: prefixes("10.0.0.5/24", "fd00:5::5/64", "fe80::5/64")},
				{Name: "docker0", Up: true, Prefixes: prefixes("172.17.0.1/16")},
			},
		},
		Sources: map[sluicekeep.Zone]firewall.Zone{
			sluicekeep.ZoneHost:         {Self: true},
			sluicekeep.ZoneSegment:      {In: prefixes("10.0.0.0/24", "fd00:5::/64", "fe80::/10")},
			sluicekeep.ZoneOrganisation: {In: prefixes("10.0.0.0/8", "fc00::/7"), Except: prefixes("10.0.0.0/24", "fd00:5::/64")},
			sluicekeep.ZoneInternet: {Except: prefixes("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12",
				"192.168.0.0/16", "224.0.0.0/3", "::/127", "fc00::/7", "fe80::/10", "ff00::/8")},
		},
	}
}

// listen makes a listener of the host: "[::]:80/tcp" by address and port.
func listen(address, exe string, p sluicekeep.Port) sluicekeep.Listener {
	return sluicekeep.Listener{
		Address: addr(address), Port: p, Namespace: hostNS, Process: &sluicekeep.Process{PID: 100, Exe: "/usr/bin/" + exe},
	}
}

func tcp(n uint16) sluicekeep.Port { return sluicekeep.Port{Transport: sluicekeep.TCP, Number: n} }
func udp(n uint16) sluicekeep.Port { return sluicekeep.Port{Transport: sluicekeep.UDP, Number: n} }

// store makes a ruleset of one input chain.
func input(store firewall.Store, family string, policy firewall.Verdict, rules ...firewall.Rule) firewall.Table {
	return firewall.Table{Store: store, Family: family, Name: "filter", Chains: []firewall.Chain{{
		Name: "INPUT", Hook: firewall.HookInput, Type: "filter", Policy: policy, Rules: rules,
	}}}
}

func tables(ts ...firewall.Table) *firewall.Ruleset { return &firewall.Ruleset{Tables: ts} }

// rule makes a rule about one port.
func rule(v firewall.Verdict, p sluicekeep.Port, more ...firewall.Match) firewall.Rule {
	word := map[firewall.Verdict]string{firewall.Accept: "accept", firewall.Drop: "drop", firewall.Reject: "reject"}[v]
	return firewall.Rule{
		Text: fmt.Sprintf("%s dport %d %s", p.Transport, p.Number, word),
		Matches: append([]firewall.Match{
			firewall.Matches(firewall.FieldProto, firewall.Between(uint64(p.Transport.Number()), uint64(p.Transport.Number()))),
			firewall.Matches(firewall.FieldDport, firewall.Between(uint64(p.Number), uint64(p.Number))),
		}, more...),
		Action: firewall.Action{Verdict: v},
	}
}

func loopback() firewall.Rule {
	return firewall.Rule{
		Text:    "iifname lo accept",
		Matches: []firewall.Match{firewall.Matches(firewall.FieldIif, firewall.Iface("lo"))},
		Action:  firewall.Action{Verdict: firewall.Accept},
	}
}

// docker makes the nat and forward tables that publish a port as docker does.
func docker(port, to uint16) firewall.Table {
	local := firewall.Matches(firewall.FieldDstType, firewall.Between(2, 2))
	inner := firewall.Matches(firewall.FieldIif, firewall.Iface("docker0")).Not()
	r := rule(firewall.DNAT, tcp(port), inner)
	r.Text = fmt.Sprintf("-p tcp --dport %d -j DNAT --to-destination 172.17.0.2:%d", port, to)
	r.Action.To = []firewall.Range{firewall.One(firewall.Addr(addr("172.17.0.2")))}
	r.Action.ToPort = []firewall.Range{firewall.Between(uint64(to), uint64(to))}
	jump := firewall.Rule{Matches: []firewall.Match{local}, Action: firewall.Action{Verdict: firewall.Jump, Chain: "DOCKER"}}
	return firewall.Table{
		Store: firewall.StoreIPTablesNFT, Family: "ip", Name: "nat", Writer: "docker",
		Chains: []firewall.Chain{
			{Name: "PREROUTING", Hook: firewall.HookPrerouting, Type: "nat", Priority: -100, Policy: firewall.Accept, Rules: []firewall.Rule{jump}},
			{Name: "DOCKER", Rules: []firewall.Rule{r}},
		},
	}
}

// find returns the row of an endpoint, or fails.
func find(t *testing.T, rows []sluicekeep.Profile, address string, p sluicekeep.Port) sluicekeep.Profile {
	t.Helper()
	for _, r := range rows {
		if r.Address == addr(address) && r.Port == p {
			return r
		}
	}
	t.Fatalf("no row %s %s in %d rows", address, p, len(rows))
	return sluicekeep.Profile{}
}

// kinds lists the contradictions of rows as "address port kind".
func kinds(rows []sluicekeep.Profile) []string {
	out := []string{}
	for _, r := range rows {
		for _, c := range r.Contradictions {
			out = append(out, fmt.Sprintf("%s %s %s", r.Address, r.Port, c.Kind))
		}
	}
	return out
}
