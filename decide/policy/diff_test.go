package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/decide/policy"
)

const head = "version: 1\nassets: {web: {match: \"role=web\"}}\nzones: {office: {in: [203.0.113.0/24], as: organisation}}\ngrants:\n"

// granted writes one grant on web.
func granted(id, service, from, more string) string {
	return fmt.Sprintf("- {id: %s, on: web, service: %s, from: %s, because: b, owner: o%s}\n", id, service, from, more)
}

func TestDiff(t *testing.T) {
	t.Parallel()
	clients := []sluicekeep.Client{
		{Port: tcp(6379), Source: netip.MustParseAddr("10.0.3.7")},
		{Port: tcp(6379), Source: netip.MustParseAddr("10.0.3.8")},
		{Port: tcp(6379), Source: netip.MustParseAddr("10.0.4.8")},
		{Port: tcp(80), Source: netip.MustParseAddr("10.0.3.9")},
	}
	for _, tc := range []struct {
		name, old, now string
		want           []string
		opens          bool
	}{
		{
			"narrowed", granted("a", "6379/tcp", "10.0.2.0/23", ""), granted("a", "6379/tcp", "10.0.2.0/24", ""),
			[]string{"10.0.3.0/24 loses 6379/tcp on web: 2 known clients"}, false,
		},
		{
			"widened", granted("a", "6379/tcp", "10.0.2.0/24", ""), granted("a", "6379/tcp", "[10.0.2.0/24, 10.0.3.7]", ""),
			[]string{"10.0.3.7 gains 6379/tcp on web"}, true,
		},
		{
			"split and renamed is no difference", granted("a", "6379/tcp", "10.0.2.0/23", ""),
			granted("b", "6379/tcp", "10.0.2.0/24", "") + granted("c", "6379/tcp", "10.0.3.0/24", ", review_by: 2027-01-01"), nil, false,
		},
		{
			"a zone by name and by prefix", granted("a", "80/tcp", "office", ""), granted("a", "80/tcp", "203.0.113.0/24", ""), nil, false,
		},
		{
			"to everyone", granted("a", "80/tcp", "10.0.0.0/8", ""), granted("a", "80/tcp", "10.0.0.0/8", "") + granted("b", "80/tcp", "internet", ""),
			[]string{"gain 80/tcp on web"}, true,
		},
		{
			"gone", granted("a", "80/tcp", "internet", ""), "  []\n", []string{"everyone loses 80/tcp on web: 1 known client"}, false,
		},
		{
			"longer", granted("a", "80/tcp", "10.0.0.1", ", until: 2026-11-24T05:00:00Z"),
			granted("a", "80/tcp", "10.0.0.1", ", until: 2026-11-24T07:00:00Z"),
			[]string{"10.0.0.1 gains 80/tcp on web from 2026-11-24T05:00:00Z until 2026-11-24T07:00:00Z"}, true,
		},
		{
			"made temporary", granted("a", "80/tcp", "10.0.0.1", ""), granted("a", "80/tcp", "10.0.0.1", ", until: 2026-11-24T07:00:00Z"),
			[]string{"10.0.0.1 loses 80/tcp on web from 2026-11-24T07:00:00Z"}, false,
		},
		{
			"an ended grant is nothing", granted("a", "80/tcp", "10.0.0.1", ", until: 2026-11-24T03:00:00Z"), "  []\n", nil, false,
		},
		{
			"any holder", granted("a", "80/tcp", "10.0.0.1", ", held_by: {unit: x}"), granted("a", "80/tcp", "10.0.0.1", ""),
			[]string{"10.0.0.1 gains 80/tcp on web"}, true,
		},
		{
			"one holder only", granted("a", "80/tcp", "10.0.0.1", ""), granted("a", "80/tcp", "10.0.0.1", ", held_by: {unit: x}"),
			[]string{"10.0.0.1 loses 80/tcp on web"}, false,
		},
		{
			"another holder", granted("a", "80/tcp", "10.0.0.1", ", held_by: {unit: x}"), granted("a", "80/tcp", "10.0.0.1", ", held_by: {unit: y}"),
			[]string{"10.0.0.1 loses 80/tcp on web, held by unit x", "10.0.0.1 gains 80/tcp on web, held by unit y"}, true,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ds := policy.Diff(load(t, head+tc.old), load(t, head+tc.now), policy.Against{Machine: web(), Clients: clients, Now: noon()})
			if len(ds) != len(tc.want) {
				t.Fatalf("%d differences, want %d: %+v", len(ds), len(tc.want), ds)
			}
			for i, d := range ds {
				if !strings.Contains(d.Text, tc.want[i]) {
					t.Errorf("got  %q\nwant %q", d.Text, tc.want[i])
				}
			}
			if policy.Opens(ds) != tc.opens {
				t.Errorf("opens is %v: %+v", policy.Opens(ds), ds)
			}
		})
	}
}

func TestDiffRules(t *testing.T) {
	t.Parallel()
	base := "version: 1\n"
	for _, tc := range []struct {
		name, old, now, want string
		opens, committee     bool
	}{
		{"lowered", "assets: {web: {mode: enforce}}", "assets: {web: {mode: watch}}", "web goes from enforce to watch", true, false},
		{"raised", "assets: {web: {}}", "assets: {web: {mode: shadow}}", "web goes from watch to shadow", false, false},
		{"asset gone", "assets: {web: {mode: shadow}}", "", "web goes from shadow to watch", true, false},
		{"other machines", "assets: {web: {match: a=b}}", "assets: {web: {match: a=c}}", "now means the machines with a=c", true, false},
		{"guard gone", "guards: [{service: 22/tcp, from: internet}]", "", "the guard of 22/tcp from internet goes", false, true},
		{"approval", "", "approval: [{when: opens, needs: []}]", `the approval rule "opens" () is new`, true, true},
		{"weights", "", "weights: {dependence: 100, exposure: 0, vulnerability: 0, utilisation: 0, compliance: 0}", "weights", false, false},
	} {
		ds := policy.Diff(load(t, base+tc.old), load(t, base+tc.now), policy.Against{Now: noon()})
		if len(ds) != 1 || !strings.Contains(ds[0].Text, tc.want) || policy.Opens(ds) != tc.opens || policy.NeedsCommittee(ds) != tc.committee {
			t.Errorf("%s: %+v", tc.name, ds)
		}
	}
}

// drawn is a random policy over few names, so that grants meet.
func drawn(t *rapid.T, label string) (string, []func(netip.Addr, time.Time) bool) {
	text := head
	var grants []func(netip.Addr, time.Time) bool
	for i := range rapid.IntRange(0, 4).Draw(t, label) {
		from := rapid.SampledFrom([]string{"10.0.0.0/8", "10.0.2.0/23", "10.0.3.0/24", "10.0.3.7/32", "0.0.0.0/0"}).Draw(t, "from")
		hours := rapid.IntRange(0, 3).Draw(t, "hours")
		more := ""
		if hours > 0 {
			more = ", until: " + noon().Add(time.Duration(hours)*time.Hour).Format(time.RFC3339)
		}
		text += granted(fmt.Sprintf("g%d", i), "80/tcp", from, more)
		grants = append(grants, func(a netip.Addr, at time.Time) bool {
			alive := hours == 0 || at.Before(noon().Add(time.Duration(hours)*time.Hour))
			return alive && netip.MustParsePrefix(from).Contains(a)
		})
	}
	if len(grants) == 0 {
		text += "  []\n"
	}
	return text, grants
}

// What a diff says of an address and an instant is what the grants say.
func TestDiffIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		oldText, was := drawn(t, "old")
		newText, is := drawn(t, "new")
		old, err1 := policy.Load(map[string][]byte{"old": []byte(oldText)})
		now, err2 := policy.Load(map[string][]byte{"new": []byte(newText)})
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		ds := policy.Diff(old, now, policy.Against{Machine: web(), Now: noon()})
		a := netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.3.7", "10.0.3.8", "10.0.2.1", "10.9.9.9", "8.8.8.8"}).Draw(t, "address"))
		at := noon().Add(time.Duration(rapid.IntRange(0, 250).Draw(t, "minutes")) * time.Minute)
		let := func(grants []func(netip.Addr, time.Time) bool) bool {
			for _, g := range grants {
				if g(a, at) {
					return true
				}
			}
			return false
		}
		var gains, loses bool
		for _, d := range ds {
			if at.Before(d.From) || !d.Until.IsZero() && !at.Before(d.Until) {
				continue
			}
			gains = gains || contains(d.Gains, a)
			loses = loses || contains(d.Loses, a)
		}
		if gains != (let(is) && !let(was)) || loses != (let(was) && !let(is)) {
			t.Fatalf("%s at %s: was %v, is %v, yet gains %v, loses %v: %+v", a, at, let(was), let(is), gains, loses, ds)
		}
	})
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// A draft loads, covers every held port that others reach, and nothing else.
func TestInit(t *testing.T) {
	t.Parallel()
	yes, no, none := true, false, 0
	row := func(a string, n uint16, exe, unit string, held *bool) sluicekeep.Profile {
		return sluicekeep.Profile{
			Asset: "web-01", Address: netip.MustParseAddr(a), Port: tcp(n), Held: held, KnownClients: &none,
			Process: &sluicekeep.Process{Exe: exe, Unit: unit},
		}
	}
	rows := []sluicekeep.Profile{
		row("0.0.0.0", 22, "/usr/sbin/sshd", "ssh.service", &yes), row("::", 22, "/usr/sbin/sshd", "ssh.service", &yes),
		row("127.0.0.1", 5432, "/usr/bin/postgres", "", &yes), row("0.0.0.0", 8443, "", "", &no),
		row("0.0.0.0", 6379, "/tmp/\x1b[2J\": {evil}\n#", "x\": \n- y.service", &yes),
		row("10.1.2.3", 80, "/usr/sbin/nginx", "nginx.service", &yes),
	}
	var clients []sluicekeep.Client
	for i := range byte(40) {
		clients = append(clients, sluicekeep.Client{Port: tcp(80), Source: netip.AddrFrom4([4]byte{10, 0, i % 2, i})})
	}
	clients = append(clients, sluicekeep.Client{Port: tcp(22), Source: netip.MustParseAddr("10.0.0.9")})
	text := policy.Init(rows, clients, noon())
	p, err := policy.Load(map[string][]byte{"draft.yaml": text})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	h := p.For(policy.Machine{Name: "web-01"}).With(nil, noon())
	got := map[string][]netip.Prefix{}
	for _, g := range h.Grants() {
		got[g.Ports[0].String()] = g.From
		if want := noon().Add(31 * 24 * time.Hour).Truncate(24 * time.Hour); !g.ReviewBy.Equal(want) {
			t.Errorf("%s is due for review at %s, want %s", g.ID, g.ReviewBy, want)
		}
	}
	if len(got) != 3 || h.Mode() != policy.Watch {
		t.Fatalf("grants %v, mode %s\n%s", got, h.Mode(), text)
	}
	for port, want := range map[string][]netip.Prefix{"22/tcp": prefixes("10.0.0.9/32"), "80/tcp": prefixes("10.0.0.0/23")} {
		if fmt.Sprint(got[port]) != fmt.Sprint(want) {
			t.Errorf("%s is from %v, want %v", port, got[port], want)
		}
	}
	for _, r := range rows[:2] {
		if _, ok := h.Authorise(r); ok == nil || !*ok {
			t.Errorf("the draft does not cover %s", r.Endpoint())
		}
	}
	if _, err := policy.Load(map[string][]byte{"d": policy.Init(nil, nil, noon())}); err != nil {
		t.Errorf("an empty draft: %v", err)
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	text := "version: 1\nassets: {web: {env: prod}}\nservices: {redis: 6379/tcp, unused: 1/tcp}\ngrants:\n" +
		granted("ended", "80/tcp", "10.0.0.1", ", until: 2026-11-24T03:00:00Z") +
		granted("wide", "81/tcp", "10.0.0.0/8", ", review_by: 2027-01-01") +
		granted("inside", "81/tcp", "10.0.0.1", ", review_by: 2027-01-01") +
		granted("standing", "82/tcp", "10.0.0.1", "") +
		granted("overdue", "83/tcp", "10.0.0.1", ", review_by: 2026-11-01") +
		granted("risky", "redis", "internet", ", review_by: 2027-01-01")
	var got []string
	for _, p := range load(t, text).Lint(noon()) {
		got = append(got, p.Text)
	}
	want := []string{
		"the asset web is in production and has no owner",
		"no grant or guard is for the service unused",
		"grant ended ended at 2026-11-24T03:00:00Z",
		"grant inside lets in nobody whom grant wide does not",
		"grant standing stands without ever being reviewed",
		"grant overdue was due for review by 2026-11-01",
		"grant risky opens 6379/tcp (Redis, often without a password) to the internet",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
