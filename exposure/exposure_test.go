package exposure_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/exposure"
	"github.com/sluicekeep/sluicekeep/firewall"
)

func ExampleFold() {
	rows := exposure.Fold(exposure.Facts{
		Asset: "web-01",
		Listeners: []sluicekeep.Listener{{
			Address: addr("::"), Port: sluicekeep.Port{Transport: sluicekeep.TCP, Number: 80},
		}},
		Host: firewall.Host{Rules: &firewall.Ruleset{}},
	})
	for _, r := range rows {
		fmt.Println(r.Endpoint(), *r.Held, r.Declared)
	}
	// Output:
	// web-01 0.0.0.0:80/tcp true none
	// web-01 [::]:80/tcp true none
}

// A host on which nothing is wrong shows no contradiction.
func TestCleanHosts(t *testing.T) {
	t.Parallel()
	plain := []sluicekeep.Listener{
		listen("::", "sshd", tcp(22)), listen("0.0.0.0", "nginx", tcp(80)), listen("127.0.0.1", "postgres", tcp(5432)),
		listen("::1", "postgres", tcp(5432)), listen("0.0.0.0", "chronyd", udp(123)), listen("10.0.0.5", "dhclient", udp(68)),
		listen("fe80::5", "networkd", udp(546)),
	}
	dhcp := rule(firewall.Accept, udp(68), firewall.Matches(firewall.FieldSport, firewall.Between(67, 67)))
	mdns := rule(firewall.Accept, udp(5353), firewall.Matches(firewall.FieldDst, firewall.One(firewall.Addr(addr("224.0.0.251")))))
	walled := func(store firewall.Store) firewall.Table {
		return input(store, "inet", firewall.Drop, loopback(), rule(firewall.Accept, tcp(22)), rule(firewall.Accept, tcp(80)), dhcp, mdns)
	}
	for name, rules := range map[string]*firewall.Ruleset{
		"no firewall":            {},
		"no firewall, no tables": tables(),
		"unreadable":             nil,
		"nft":                    tables(walled(firewall.StoreNFTables)),
		"iptables-nft":           tables(walled(firewall.StoreIPTablesNFT)),
		"empty second store":     tables(walled(firewall.StoreNFTables), input(firewall.StoreIPTablesLegacy, "ip", firewall.Accept)),
	} {
		t.Run(name, func(t *testing.T) {
			rows := exposure.Fold(newFacts(rules, plain...))
			if got := kinds(rows); len(got) > 0 {
				t.Errorf("contradictions on a clean host: %v", got)
			}
			if len(rows) != 8 {
				t.Errorf("%d rows, want 8", len(rows))
			}
		})
	}
}

func TestPredictions(t *testing.T) {
	t.Parallel()
	rules := tables(input(firewall.StoreNFTables, "inet", firewall.Drop, loopback(), rule(firewall.Accept, tcp(22)),
		rule(firewall.Accept, tcp(9100), firewall.Matches(firewall.FieldSrc, firewall.Prefix(prefixes("10.0.0.0/8")[0]),
			firewall.Prefix(prefixes("fc00::/7")[0]))), rule(firewall.Reject, tcp(25))))
	rows := exposure.Fold(newFacts(rules,
		listen("::", "sshd", tcp(22)), listen("0.0.0.0", "node_exporter", tcp(9100)), listen("127.0.0.1", "postgres", tcp(5432)),
		listen("0.0.0.0", "redis", tcp(6379)), listen("0.0.0.0", "exim", tcp(25)), listen("fe80::5", "x", tcp(22222))))
	open, filtered, closed := sluicekeep.ReachOpen, sluicekeep.ReachFiltered, sluicekeep.ReachClosed
	for _, tc := range []struct {
		address  string
		port     sluicekeep.Port
		declared sluicekeep.Declared
		want     sluicekeep.Reaches
	}{
		{"0.0.0.0", tcp(22), "open", sluicekeep.Reaches{Host: open, Segment: open, Organisation: open, Internet: open}},
		{"::", tcp(22), "open", sluicekeep.Reaches{Host: open, Segment: open, Organisation: open, Internet: open}},
		{"0.0.0.0", tcp(9100), "partial", sluicekeep.Reaches{Host: open, Segment: open, Organisation: open, Internet: filtered}},
		{"0.0.0.0", tcp(6379), "closed", sluicekeep.Reaches{Host: open, Segment: filtered, Organisation: filtered, Internet: filtered}},
		{"0.0.0.0", tcp(25), "closed", sluicekeep.Reaches{Host: open, Segment: closed, Organisation: closed, Internet: closed}},
		{"127.0.0.1", tcp(5432), "closed", sluicekeep.Reaches{Host: open, Segment: closed, Organisation: closed, Internet: closed}},
		{"fe80::5", tcp(22222), "closed", sluicekeep.Reaches{Host: open, Segment: filtered, Organisation: closed, Internet: closed}},
	} {
		r := find(t, rows, tc.address, tc.port)
		if diff := cmp.Diff(tc.want, r.Predicted); diff != "" {
			t.Errorf("%s %s predicted (-want +got):\n%s", tc.address, tc.port, diff)
		}
		if r.Declared != tc.declared {
			t.Errorf("%s %s declared %s, want %s", tc.address, tc.port, r.Declared, tc.declared)
		}
	}
}

// Each case of the contract: the kind, and what the sentence must name.
func TestContradictions(t *testing.T) {
	t.Parallel()
	container := listen("0.0.0.0", "redis-server", tcp(6379))
	container.Namespace, container.Process = containerNS, &sluicekeep.Process{PID: 7, Exe: "/usr/bin/redis-server", Container: "cache"}
	v4only := input(firewall.StoreNFTables, "ip", firewall.Drop, loopback(), rule(firewall.Accept, tcp(22)))
	closedLegacy := input(firewall.StoreIPTablesLegacy, "ip", firewall.Accept, rule(firewall.Drop, tcp(8080)))
	opened := input(firewall.StoreIPTablesNFT, "inet", firewall.Drop, rule(firewall.Accept, tcp(8080)))
	dropped := input(firewall.StoreNFTables, "inet", firewall.Accept, rule(firewall.Drop, tcp(8080)))
	early := input(firewall.StoreNFTables, "inet", firewall.Drop, rule(firewall.Drop, tcp(8080)), rule(firewall.Accept, tcp(8080)))
	wall := input(firewall.StoreIPTablesNFT, "inet", firewall.Drop, loopback(), rule(firewall.Accept, tcp(22)))
	for _, tc := range []struct {
		name  string
		rules *firewall.Ruleset
		held  []sluicekeep.Listener
		want  []string
		names []string // in the cause
	}{
		{
			"docker past ufw", tables(wall, docker(6379, 6379)), []sluicekeep.Listener{container, listen("0.0.0.0", "sshd", tcp(22))},
			[]string{"0.0.0.0 6379/tcp published_past_firewall"},
			[]string{"docker", "172.17.0.2:6379", "DNAT", "policy drop", "not probed"},
		},
		{
			"docker past ufw, with docker-proxy", tables(wall, docker(6379, 6379)),
			[]sluicekeep.Listener{container, listen("0.0.0.0", "docker-proxy", tcp(6379)), listen("0.0.0.0", "sshd", tcp(22))},
			[]string{"0.0.0.0 6379/tcp published_past_firewall"}, nil,
		},
		{
			"IPv4 closed only", tables(v4only), []sluicekeep.Listener{listen("::", "vnc", tcp(5900)), listen("::", "sshd", tcp(22))},
			[]string{":: 5900/tcp open_on_ipv6_only"},
			[]string{"IPv4 closes 5900/tcp", "policy drop", "no rule closes IPv6", "internet"},
		},
		{
			"held by nobody", tables(input(firewall.StoreNFTables, "ip", firewall.Drop, rule(firewall.Accept, tcp(8443)))), nil,
			[]string{"0.0.0.0 8443/tcp allowed_but_nobody_listens"},
			[]string{"tcp dport 8443 accept"},
		},
		{
			"hidden store", tables(closedLegacy), []sluicekeep.Listener{listen("0.0.0.0", "tomcat", tcp(8080))},
			[]string{"0.0.0.0 8080/tcp blocked_by_hidden_store"},
			[]string{"iptables-legacy", "tcp dport 8080 drop", "tomcat"},
		},
		{
			"two stores", tables(opened, dropped), []sluicekeep.Listener{listen("0.0.0.0", "tomcat", tcp(8080))},
			[]string{"0.0.0.0 8080/tcp two_stores_active"},
			[]string{"iptables-nft", "nftables", "tcp dport 8080 drop", "tcp dport 8080 accept"},
		},
		{
			"shadowed", tables(early), []sluicekeep.Listener{listen("0.0.0.0", "tomcat", tcp(8080))},
			[]string{"0.0.0.0 8080/tcp shadowed"}, []string{"never sees a packet", "tcp dport 8080 drop"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows := exposure.Fold(newFacts(tc.rules, tc.held...))
			if diff := cmp.Diff(tc.want, kinds(rows)); diff != "" {
				t.Fatalf("contradictions (-want +got):\n%s", diff)
			}
			for _, r := range rows {
				for _, c := range r.Contradictions {
					for _, name := range tc.names {
						if !strings.Contains(c.Cause, name) {
							t.Errorf("cause %q does not name %q", c.Cause, name)
						}
					}
					if c.Rule == "" || c.Remedy == "" || c.Values["port"] == "" || c.Values["family"] == "" {
						t.Errorf("incomplete: %+v", c)
					}
				}
			}
		})
	}
}

func TestPublishedProcess(t *testing.T) {
	t.Parallel()
	container := listen("0.0.0.0", "redis-server", tcp(6379))
	container.Namespace, container.Process = containerNS, &sluicekeep.Process{PID: 7, Exe: "/usr/bin/redis-server", Container: "cache"}
	rules := tables(docker(16379, 6379))
	proxies := []sluicekeep.Listener{listen("0.0.0.0", "docker-proxy", tcp(16379)), listen("::", "docker-proxy", tcp(16379))}
	proxies[1].V6Only = true

	rows := exposure.Fold(newFacts(rules, container))
	if len(rows) != 1 {
		t.Fatalf("%d rows, want the published one only", len(rows))
	}
	rows = exposure.Fold(newFacts(rules, append(proxies, container)...))
	for _, a := range []string{"0.0.0.0", "::"} {
		r := find(t, rows, a, tcp(16379))
		if r.Held == nil || !*r.Held || r.Process == nil || r.Process.Container != "cache" {
			t.Errorf("%s: held %v by %+v, want the container's process", a, r.Held, r.Process)
		}
	}
	dead := exposure.Fold(newFacts(rules))
	if got := kinds(dead); len(got) != 1 || !strings.HasSuffix(got[0], exposure.AllowedButNobodyListens) {
		t.Errorf("a publication to nobody: %v", got)
	}
	blind := newFacts(rules)
	blind.Unlisted = true
	if r := exposure.Fold(blind)[0]; r.Held != nil {
		t.Errorf("held is %v although nobody looked", *r.Held)
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	wall := tables(input(firewall.StoreNFTables, "inet", firewall.Drop, loopback(), rule(firewall.Accept, tcp(80))))
	probe := func(zone sluicekeep.Zone, to string, p sluicekeep.Port, reach sluicekeep.Reach) sluicekeep.Probe {
		return sluicekeep.Probe{Vantage: "v-" + string(zone), Zone: zone, Address: addr(to), Port: p, Reach: reach, At: noon()}
	}
	f := newFacts(wall, listen("0.0.0.0", "nginx", tcp(80)), listen("0.0.0.0", "redis", tcp(6379)))
	f.Probes = []sluicekeep.Probe{
		probe(sluicekeep.ZoneInternet, "10.0.0.5", tcp(80), sluicekeep.ReachFiltered),
		probe(sluicekeep.ZoneInternet, "10.0.0.5", tcp(6379), sluicekeep.ReachOpen),
		probe("mars", "10.0.0.5", tcp(6379), sluicekeep.ReachOpen),
	}
	rows := exposure.Fold(f)
	want := []string{"0.0.0.0 80/tcp declared_open_but_unreachable", "0.0.0.0 6379/tcp declared_closed_but_reachable"}
	if diff := cmp.Diff(want, kinds(rows)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	r := find(t, rows, "0.0.0.0", tcp(6379))
	basis := sluicekeep.Basis{By: "probe", Vantage: "v-internet", At: noon()}
	if diff := cmp.Diff(basis, r.Basis[sluicekeep.ZoneInternet]); diff != "" {
		t.Error(diff)
	}
	if r.Reachable.Segment != sluicekeep.ReachUnknown || r.Basis[sluicekeep.ZoneSegment].By != "rules" {
		t.Errorf("nobody probed from the segment: %+v", r.Basis)
	}
	if c := r.Contradictions[0]; strings.Contains(c.Cause, "not probed") {
		t.Errorf("proved, and says otherwise: %s", c.Cause)
	}
	f.Closures = map[sluicekeep.Port]string{tcp(80): "c1", tcp(6379): "c2"}
	if got := kinds(exposure.Fold(f)); len(got) > 0 {
		t.Errorf("contradictions while a change of ours closes the port: %v", got)
	}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	f := newFacts(tables(), listen("0.0.0.0", "redis", tcp(6379)))
	f.Grants = []sluicekeep.Grant{{ID: "cache", Ports: []sluicekeep.Port{tcp(6379)}, From: prefixes("10.1.0.0/16"), Owner: "shop"}}
	yes, id := true, "cache"
	f.Authorise = func(sluicekeep.Profile) (*string, *bool) { return &id, &yes }
	rows := exposure.Fold(f)
	if diff := cmp.Diff([]string{"0.0.0.0 6379/tcp bound_beyond_policy"}, kinds(rows)); diff != "" {
		t.Fatal(diff)
	}
	if c := rows[0].Contradictions[0]; !strings.Contains(c.Cause, "10.1.0.0/16") || !strings.Contains(c.Remedy, "--keep 10.1.0.0/16") {
		t.Errorf("it does not say who is granted: %+v", c)
	}
	if rows[0].Owner != "shop" {
		t.Errorf("owner %q, want the grant's", rows[0].Owner)
	}

	f.Grants[0].From = nil
	if got := kinds(exposure.Fold(f)); len(got) > 0 {
		t.Errorf("granted to everyone: %v", got)
	}
	f.Grants[0].Until = noon().Add(-time.Minute)
	no := false
	f.Authorise = func(sluicekeep.Profile) (*string, *bool) { return nil, &no }
	if diff := cmp.Diff([]string{"0.0.0.0 6379/tcp expired_grant_open"}, kinds(exposure.Fold(f))); diff != "" {
		t.Error(diff)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	f := newFacts(tables(), listen("0.0.0.0", "nginx", tcp(80)))
	f.Prior = exposure.Fold(f)
	if got := kinds(f.Prior); len(got) > 0 {
		t.Fatal(got)
	}
	f.Listeners = []sluicekeep.Listener{listen("0.0.0.0", "nc", tcp(80))}
	f.At = f.At.Add(time.Minute)
	for _, later := range []time.Duration{0, time.Hour} {
		f.At = f.At.Add(later)
		f.Prior = exposure.Fold(f)
		if diff := cmp.Diff([]string{"0.0.0.0 80/tcp identity_changed"}, kinds(f.Prior)); diff != "" {
			t.Fatalf("after %s: %s", later, diff)
		}
		if !f.Prior[0].FirstSeen.Equal(noon()) {
			t.Errorf("first seen %s", f.Prior[0].FirstSeen)
		}
	}
	f.At = f.At.Add(25 * time.Hour)
	if got := kinds(exposure.Fold(f)); len(got) > 0 {
		t.Errorf("still told after a day: %v", got)
	}
}

func TestSummarise(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	open := sluicekeep.Reaches{Internet: sluicekeep.ReachOpen}
	rows := []sluicekeep.Profile{
		{Authorised: &yes, Predicted: open},
		{Authorised: &no, Reachable: open},
		{Authorised: &no, Closed: "c1"},
		{Authorised: &no, Predicted: open, Reachable: sluicekeep.Reaches{Internet: sluicekeep.ReachFiltered}},
	}
	two := 2
	want := sluicekeep.Summary{Ports: 4, Unauthorised: &two, Internet: 2}
	if diff := cmp.Diff(want, exposure.Summarise(rows)); diff != "" {
		t.Error(diff)
	}
	rows = append(rows, sluicekeep.Profile{Contradictions: make([]sluicekeep.Contradiction, 3)})
	want = sluicekeep.Summary{Ports: 5, Unreviewed: 1, Internet: 2, Contradictions: 3}
	if diff := cmp.Diff(want, exposure.Summarise(rows)); diff != "" {
		t.Error(diff)
	}
}

// Text from rules and processes is shown to people: what could deceive them is
// taken out.
func TestHostileText(t *testing.T) {
	t.Parallel()
	r := rule(firewall.Accept, tcp(8443))
	r.Text = "evil\x1b[2J\u202e rule\n" + strings.Repeat("x", 5000)
	for _, row := range exposure.Fold(newFacts(tables(input(firewall.StoreNFTables, "ip", firewall.Drop, r)))) {
		for _, c := range row.Contradictions {
			if strings.ContainsAny(c.Cause+c.Rule+c.Values["rule"], "\x1b\u202e\n") || len(c.Cause) > 1500 {
				t.Errorf("hostile text passes: %q", c.Cause)
			}
		}
	}
}

func BenchmarkFold2000(b *testing.B) {
	var ls []sluicekeep.Listener
	for n := range uint16(2000) {
		ls = append(ls, listen("::", "app", tcp(10000+n)))
	}
	wall := input(firewall.StoreNFTables, "inet", firewall.Drop, loopback(), rule(firewall.Accept, tcp(22)))
	for n := range uint16(100) {
		wall.Chains[0].Rules = append(wall.Chains[0].Rules, rule(firewall.Accept, tcp(10000+n*7)))
	}
	for name, rules := range map[string]*firewall.Ruleset{"open": tables(), "walled": tables(wall, docker(6379, 6379))} {
		f := newFacts(rules, ls...)
		f.Prior = exposure.Fold(f)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				exposure.Fold(f)
			}
		})
	}
}
