package policy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/decide/policy"
	"github.com/sluicekeep/sluicekeep/firewall"
)

func noon() time.Time { return time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC) }

func tcp(n uint16) sluicekeep.Port { return sluicekeep.Port{Transport: sluicekeep.TCP, Number: n} }

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func load(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Load(map[string][]byte{"policy.yaml": []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func example(t testing.TB) *policy.Policy {
	t.Helper()
	files, err := policy.Files("testdata")
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func web() policy.Machine {
	return policy.Machine{
		Name: "web-01", Labels: map[string]string{"role": "web", "env": "prod"},
		Interfaces: []sluicekeep.Interface{
			{Name: "lo", Loopback: true, Prefixes: prefixes("127.0.0.1/8", "::1/128")},
			{Name: "eth0", Prefixes: prefixes("10.1.2.3/24", "2001:db8:5::3/64")},
			{Name: "docker0", Prefixes: prefixes("172.17.0.1/16")},
		},
	}
}

func ExampleLoad() {
	_, err := policy.Load(map[string][]byte{"policy.yaml": []byte(`
version: 1
grants:
  - {id: web, on: role=web, servise: 443/tcp, from: internet, because: shop, owner: ops}
`)})
	fmt.Println(err)
	// Output:
	// policy.yaml:4:5: a grant lacks service; add it
	// policy.yaml:4:29: a grant has no key "servise"; did you mean service?
}

func TestExample(t *testing.T) {
	t.Parallel()
	p := example(t)
	h := p.For(web()).With(nil, noon())
	var ids []string
	for _, g := range h.Grants() {
		ids = append(ids, g.ID)
	}
	if diff := cmp.Diff([]string{"storefront", "incident-4711", "agents"}, ids); diff != "" {
		t.Errorf("grants of web-01 (-want +got):\n%s", diff)
	}
	if h.Mode() != policy.Enforce || h.Env() != "prod" || h.Owner() != "shop-team" {
		t.Errorf("mode %s, env %s, owner %s", h.Mode(), h.Env(), h.Owner())
	}
	if got := h.Guards(); len(got) != 1 || got[0].Port.String() != "22/tcp" || got[0].Sources[0].String() != "203.0.113.0/24" {
		t.Errorf("guards %+v", got)
	}
	if got := h.Grants()[1].Until; !got.Equal(time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("until %s", got)
	}
	if got := p.For(policy.Machine{Name: "other"}); got.Known() || len(got.Grants()) > 0 || got.Mode() != policy.Watch {
		t.Errorf("a machine that no asset names: %+v", got.Grants())
	}
	if p.Weights.Exposure != 30 || len(p.Approval) != 3 || p.Approval[1].Needs[0].Count != 3 {
		t.Errorf("weights %+v, approval %+v", p.Weights, p.Approval)
	}
	if got := p.Lint(noon()); len(got) != 0 {
		t.Errorf("the example is doubtful: %v", got)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	const grant = "  - {id: a, on: role=x, service: 80/tcp, from: internet, because: b, owner: o%s}\n"
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "p.yaml:1:1: the file is empty; write at least version: 1"},
		{"no YAML", "version: [", "p.yaml:1:1: this is not YAML"},
		{"two documents", "version: 1\n---\nversion: 1\n", "more than one document"},
		{"list", "- a", "p.yaml:1:1: the policy is not a mapping"},
		{"version", "version: 2", `p.yaml:1:10: version cannot be "2"`},
		{"no version", "zones: {}", "the policy lacks version"},
		{"unknown key", "version: 1\ngrant: []", `p.yaml:2:1: the policy has no key "grant"; did you mean grants?`},
		{"far key", "version: 1\nqqqqqqqq: []", "the keys are version, zones"},
		{"key twice", "version: 1\nzones: {}\nzones: {}", `p.yaml:3:1: "zones" is given twice, first in line 2`},
		{"alias", "version: 1\nzones: &a {}\nassets: *a", "anchors and aliases are not read"},
		{"bad prefix", "version: 1\nzones: {x: {in: [10.0.0.0/33], as: segment}}", `p.yaml:2:18: "10.0.0.0/33" is not an address or prefix`},
		{"host bits", "version: 1\nzones: {x: {in: 10.0.0.1/8, as: segment}}", `has host bits set; write 10.0.0.0/8, or 10.0.0.1/32`},
		{"mapped", "version: 1\nzones: {x: {in: \"::ffff:10.0.0.0/104\", as: segment}}", "IPv4 prefix in IPv6 dress"},
		{"bad zone", "version: 1\nzones: {x: {in: 10.0.0.0/8, as: organization}}", "did you mean organisation?"},
		{"built-in zone", "version: 1\nzones: {internet: {in: 10.0.0.0/8, as: internet}}", "internet is a built-in zone"},
		{"port 0", "version: 1\nservices: {x: 0/tcp}", `p.yaml:2:15: "0/tcp" is not a port`},
		{"port 65536", "version: 1\nservices: {x: [80/tcp, 65536/tcp]}", `p.yaml:2:24: "65536/tcp" is not a port`},
		{"bad transport", "version: 1\nservices: {x: 80/icmp}", `"80/icmp" is not a port`},
		{"bad range", "version: 1\nservices: {x: 90-80/tcp}", "is not a range of ports"},
		{"huge range", "version: 1\nservices: {x: 1-65535/tcp}", "at most 1024 ports"},
		{"bad mode", "version: 1\nassets: {x: {mode: enforced}}", `p.yaml:2:20: mode cannot be "enforced"; did you mean enforce?`},
		{"bad match", "version: 1\nassets: {x: {match: \"role=web (\"}}", `p.yaml:2:31: this ( is never closed`},
		{"duplicate id", "version: 1\ngrants:\n" + fmt.Sprintf(grant, "") + fmt.Sprintf(grant, ""), "grant a is defined twice, first at p.yaml:3:5"},
		{"unknown service", "version: 1\nservices: {redis: 6379/tcp}\ngrants:\n" + strings.Replace(fmt.Sprintf(grant, ""), "80/tcp", "rediss", 1), "is for the service rediss, which is not defined; did you mean redis?"},
		{"unknown zone", "version: 1\ngrants:\n" + strings.Replace(fmt.Sprintf(grant, ""), "internet", "intranet", 1), "is from the zone intranet, which is not defined; did you mean internet?"},
		{"unknown asset", "version: 1\nassets: {web: {}}\ngrants:\n" + strings.Replace(fmt.Sprintf(grant, ""), "role=x", "wep", 1), `did you mean web?`},
		{"dynamic of nobody", "version: 1\nservices: {x: dynamic/tcp}\ngrants:\n" + strings.Replace(fmt.Sprintf(grant, ""), "80/tcp", "x", 1), "add held_by"},
		{"held by nobody", "version: 1\ngrants:\n" + fmt.Sprintf(grant, ", held_by: {}"), "held_by names nobody"},
		{"bad until", "version: 1\ngrants:\n" + fmt.Sprintf(grant, ", until: tomorrow"), "until is not an instant"},
		{"on_end without end", "version: 1\ngrants:\n" + fmt.Sprintf(grant, ", on_end: cut"), "has on_end but no end"},
		{"bad on_end", "version: 1\ngrants:\n" + fmt.Sprintf(grant, ", until: 2026-11-24T18:00:00Z, on_end: drain"), "on_end cannot be"},
		{"dependence", "version: 1\ngrants:\n" + fmt.Sprintf(grant, ", dependence: 11"), "write a number from 0 to 10"},
		{"control characters", "version: 1\nassets: {x: {owner: \"a\\x1b[2Jb\"}}", "owner has control characters"},
		{"bad rule", "version: 1\napproval: [{when: \"opens totl>2h\", needs: []}]", `p.yaml:2:26: unknown key "totl"; did you mean total?`},
		{"bad role", "version: 1\napproval: [{when: opens, needs: [{role: approver2}]}]", "did you mean approver?"},
		{"weights", "version: 1\nweights: {dependence: 1, exposure: 2, vulnerability: 3, utilisation: 4, compliance: 5}", "weights add up to 15"},
		{"two zones", "version: 1\nzones: {a: {in: 10.0.0.0/8, as: segment}, b: {in: 10.0.0.0/8, as: internet}}", "10.0.0.0/8 is in the zones a and b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := policy.Load(map[string][]byte{"p.yaml": []byte(tc.text)})
			if err == nil {
				t.Fatal("it was accepted")
			}
			var e *sluicekeep.Error
			if !errors.As(err, &e) || e.Kind != sluicekeep.Invalid {
				t.Errorf("the kind is not Invalid: %v", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %s\nwant %s", err, tc.want)
			}
		})
	}
}

// All problems are told at once, in order, and of several files.
func TestAllProblems(t *testing.T) {
	t.Parallel()
	_, err := policy.Load(map[string][]byte{
		"b.yaml": []byte("version: 1\nmode: watch\nzones: {x: {in: 10.0.0.0/40, as: mars}}"),
		"a.yaml": []byte("version: 3"),
	})
	var ps policy.Problems
	if !errors.As(err, &ps) || len(ps) != 4 {
		t.Fatalf("want 4 problems, got %v", err)
	}
	var at []string
	for _, p := range ps {
		at = append(at, p.Place.String())
	}
	want := []string{"a.yaml:1:10", "b.yaml:2:1", "b.yaml:3:17", "b.yaml:3:34"}
	if diff := cmp.Diff(want, at); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-names.yaml": "version: 1\nzones: {office: {in: 203.0.113.0/24, as: organisation}}\nservices: {https: 443/tcp}\n",
		"20-web.yml":    "version: 1\ngrants: [{id: a, on: role=web, service: https, from: office, because: b, owner: o, review_by: 2027-01-01}]\n",
		"notes.txt":     "not read",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := policy.Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.For(web()).Grants(); len(got) != 1 || got[0].From[0].String() != "203.0.113.0/24" || got[0].Ports[0] != tcp(443) {
		t.Errorf("%+v", got)
	}
	if _, err := policy.Files(filepath.Join(dir, "missing.yaml")); err == nil || !strings.Contains(err.Error(), "missing.yaml") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := policy.Files(t.TempDir()); err == nil {
		t.Error("an empty directory was accepted")
	}
}

func TestZones(t *testing.T) {
	t.Parallel()
	h := example(t).For(web())
	bare := (*policy.Policy)(nil).For(web())
	for _, tc := range []struct {
		addr       string
		with, bare sluicekeep.Zone
	}{
		{"127.0.0.1", "host", "host"},
		{"10.1.2.3", "host", "host"},
		{"::ffff:10.1.2.3", "host", "host"},
		{"10.1.2.4", "segment", "segment"},
		{"fe80::1%eth0", "segment", "segment"},
		{"2001:db8:5::77", "segment", "segment"},
		{"10.9.9.9", "organisation", "organisation"},
		{"192.168.1.1", "organisation", "organisation"},
		{"fd12::1", "organisation", "organisation"},
		{"172.17.0.9", "host", "host"}, // a container of the machine itself
		{"172.18.0.9", "organisation", "organisation"},
		{"203.0.113.7", "organisation", "internet"},
		{"198.51.100.7", "internet", "internet"},
		{"2001:db8:6::1", "internet", "internet"},
	} {
		a := netip.MustParseAddr(tc.addr)
		if got := h.Zone(a); got != tc.with {
			t.Errorf("%s is %s with the example, want %s", tc.addr, got, tc.with)
		}
		if got := bare.Zone(a); got != tc.bare {
			t.Errorf("%s is %s without a policy, want %s", tc.addr, got, tc.bare)
		}
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	got := (*policy.Policy)(nil).For(web()).Sources()
	if diff := cmp.Diff(firewall.Zone{Self: true}, got[sluicekeep.ZoneHost]); diff != "" {
		t.Error(diff)
	}
	in := func(a string, ps []netip.Prefix) bool {
		for _, p := range ps {
			if p.Contains(netip.MustParseAddr(a)) {
				return true
			}
		}
		return false
	}
	segment, org, internet := got[sluicekeep.ZoneSegment], got[sluicekeep.ZoneOrganisation], got[sluicekeep.ZoneInternet]
	for _, tc := range []struct {
		name string
		ok   bool
	}{
		{"a neighbour is in the segment", in("10.1.2.4", segment.In)},
		{"the host itself is not", !in("10.1.2.3", segment.In)},
		{"a container is not", !in("172.17.0.2", segment.In) && !in("172.17.0.2", org.In)},
		{"the neighbour is not the organisation", !in("10.1.2.4", org.In) && in("10.2.0.1", org.In)},
		{"the internet is everything else", len(internet.In) == 0},
		{"but none of the others", in("10.1.2.4", internet.Except) && in("10.2.0.1", internet.Except) && in("172.17.0.2", internet.Except)},
		{"nor nowhere", in("224.0.0.1", internet.Except) && in("127.0.0.1", internet.Except) && in("ff02::1", internet.Except)},
		{"it has the rest", !in("198.51.100.7", internet.Except) && !in("2001:db8:9::1", internet.Except)},
	} {
		if !tc.ok {
			t.Errorf("not so: %s", tc.name)
		}
	}
}

func TestAuthorise(t *testing.T) {
	t.Parallel()
	h := example(t).For(web()).With([]sluicekeep.Grant{
		{ID: "temp", Ports: []sluicekeep.Port{tcp(8080)}, Until: noon().Add(time.Hour)},
		{ID: "ended", Ports: []sluicekeep.Port{tcp(8081)}, Until: noon()},
		{ID: "storefront", Ports: []sluicekeep.Port{tcp(8082)}}, // the file owns this id
		{ID: "gone", Ports: []sluicekeep.Port{tcp(8083)}, Tombstone: "closed"},
	}, noon())
	yes, no := true, false
	redis := &sluicekeep.Process{Exe: "/usr/bin/redis-server", Unit: "redis-server.service"}
	row := func(address string, n uint16, p *sluicekeep.Process) sluicekeep.Profile {
		return sluicekeep.Profile{Address: netip.MustParseAddr(address), Port: tcp(n), Held: &yes, Process: p}
	}
	for _, tc := range []struct {
		name  string
		row   sluicekeep.Profile
		grant string
		want  *bool
	}{
		{"granted", row("0.0.0.0", 443, nil), "storefront", &yes},
		{"approved", row("::", 8080, nil), "temp", &yes},
		{"ended", row("::", 8081, nil), "", &no},
		{"overruled by the file", row("::", 8082, nil), "", &no},
		{"tombstone", row("::", 8083, nil), "", &no},
		{"held by whom it names", row("::", 6379, redis), "incident-4711", &yes},
		{"held by another", row("::", 6379, &sluicekeep.Process{Exe: "/bin/nc"}), "", &no},
		{"held by somebody unseen", row("::", 6379, nil), "incident-4711", nil},
		{"dynamic", row("::", 40001, &sluicekeep.Process{Exe: "/usr/bin/agent"}), "agents", &yes},
		{"dynamic, another", row("::", 40001, redis), "", &no},
		{"dynamic, unseen", row("::", 40001, nil), "", &no},
		{"not granted", row("0.0.0.0", 5900, nil), "", &no},
		{"loopback needs none", row("127.0.0.1", 5432, nil), "", &yes},
	} {
		grant, authorised := h.Authorise(tc.row)
		id := ""
		if grant != nil {
			id = *grant
		}
		if id != tc.grant || !cmp.Equal(tc.want, authorised) {
			t.Errorf("%s: grant %q, authorised %s", tc.name, id, cmp.Diff(tc.want, authorised))
		}
	}
	if g, ok := (*policy.Policy)(nil).For(web()).Authorise(row("0.0.0.0", 80, nil)); g != nil || ok != nil {
		t.Errorf("without a policy it is unreviewed, got %v %v", g, ok)
	}
}

func TestFilesAreBounded(t *testing.T) {
	t.Parallel()
	_, err := policy.Load(map[string][]byte{"big.yaml": make([]byte, 5<<20)})
	if err == nil || !strings.Contains(err.Error(), "big.yaml") {
		t.Errorf("%v", err)
	}
}

func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("version: 1\nzones: {x: {in: [::/0], as: host}}\n"))
	f.Add([]byte("version: 1\ngrants: [{id: a, on: \"a=b or (c:d)\", service: 1-9, from: [::1, segment], because: x, owner: y}]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := policy.Load(map[string][]byte{"f.yaml": text})
		if err != nil {
			var ps policy.Problems
			if !errors.As(err, &ps) || len(ps) == 0 {
				t.Fatalf("an error without problems: %v", err)
			}
			if strings.ContainsAny(err.Error(), "\x1b\u202e") {
				t.Fatalf("hostile text in %q", err)
			}
			return
		}
		h := p.For(web()).With(nil, noon())
		h.Sources()
		p.Lint(noon())
		if d := policy.Diff(p, p, policy.Against{Machine: web(), Now: noon()}); len(d) > 0 {
			t.Fatalf("it differs from itself: %+v", d)
		}
	})
}
