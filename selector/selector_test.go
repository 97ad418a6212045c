package selector_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/selector"
)

func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func ExampleParse() {
	s, err := selector.Parse(`reachable:internet risk>=70 (owner:none or env!=prod)`)
	fmt.Println(s, err)
	_, err = selector.Parse(`risk>=70 reachible:internet`)
	fmt.Println(err)
	// Output:
	// reachable:internet risk>=70 (owner:none or env!=prod) <nil>
	// selector: column 10: unknown key "reachible"; did you mean reachable?
}

// redis is a row with something under every key.
func redis() sluicekeep.Profile {
	yes, grant, clients := true, "cache", 3
	return sluicekeep.Profile{
		Asset: "web-01", Address: netip.MustParseAddr("10.0.0.5"), Family: sluicekeep.IPv4,
		Port: sluicekeep.Port{Transport: sluicekeep.TCP, Number: 6379}, Declared: sluicekeep.DeclaredClosed, Held: &yes,
		Reachable: sluicekeep.Reaches{Segment: sluicekeep.ReachOpen},
		Predicted: sluicekeep.Reaches{Segment: sluicekeep.ReachOpen, Internet: sluicekeep.ReachOpen},
		Process:   &sluicekeep.Process{Exe: "/usr/bin/redis-server", Unit: "redis.service", Container: "cache-1", Image: "redis:7", User: "redis"},
		Service:   &sluicekeep.Service{Name: "redis", Product: "Redis key-value store"},
		Grant:     &grant, Authorised: &yes, Env: "prod", Risk: &sluicekeep.Risk{Score: 71}, KnownClients: &clients,
		Contradictions: []sluicekeep.Contradiction{{Kind: "published_past_firewall"}},
		FirstSeen:      noon().Add(-100 * 24 * time.Hour), LastSeen: noon().Add(-time.Hour),
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	row := redis()
	for _, tc := range []struct {
		query string
		want  bool
	}{
		{"", true},
		{"port:6379", true},
		{"port=6379", true},
		{"port!=6379", false},
		{"port:6000-6999", true},
		{"port!=6000-6999", false},
		{"port>6379", false},
		{"port>=6379", true},
		{"port:6379/tcp", true},
		{"port:6379/udp", false},
		{"transport:tcp family:ipv4", true},
		{"family:ipv6", false},
		{"6379", true},
		{"637", false},
		{"6379/udp", false},
		{"REDIS", true},
		{"redis key", true},
		{`"redis key"`, true},
		{`"redis store"`, false},
		{`"key-value store"`, true},
		{"10.0.0.0/8", true},
		{"10.0.0.5", true},
		{"::1", false},
		{"address:10.0.0.0/24", true},
		{"address!=10.0.0.0/24", false},
		{"service:redis", true},
		{"service=redis", true},
		{"service=red", false},
		{"service:none", false},
		{"process:redis-server", true},
		{"process=redis-server", true},
		{"unit:redis", true},
		{"unit=redis", true},
		{"container:cache-1", true},
		{"container:redis:7", true},
		{"user=redis", true},
		{"asset:web", true},
		{"owner:none", true},
		{`owner:"none"`, false},
		{"owner:any", false},
		{"owner!=none", false},
		{"env!=prod", false},
		{"env!=dev", true},
		{"reachable:internet", false},
		{"reachable:segment", true},
		{"reachable:any", true},
		{"reachable:none", false},
		{"predicted:internet", true},
		{"declared:closed held:true authorised:true guarded:false", true},
		{"grant:cache", true},
		{"grant:none", false},
		{"closed:none", true},
		{"contradiction:any", true},
		{"contradiction:published_past_firewall", true},
		{"contradiction:none", false},
		{"risk>=70", true},
		{"risk<70", false},
		{"risk:70-80", true},
		{"clients>2", true},
		{"seen<7d", true},
		{"seen>2h", false},
		{"new<7d", false},
		{"new>=7d", true},
		{"not port:6379", false},
		{"-port:6379", false},
		{"- port:1", true},
		{"not not port:6379", true},
		{"port:1 or port:6379", true},
		{"port:6379 port:1 or port:2", false},
		{"port:6379 (port:1 or env:prod)", true},
		{"(port:1 or port:6379) and env=prod", true},
	} {
		s, err := selector.Parse(tc.query)
		if err != nil {
			t.Errorf("%s: %v", tc.query, err)
			continue
		}
		if got := s.Match(row, noon()); got != tc.want {
			t.Errorf("%s is %v, want %v", tc.query, got, tc.want)
		}
	}
}

// What is not known matches no comparison, and every !=.
func TestUnknown(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"risk>=0": false, "risk<100": false, "risk!=5": true, "clients:0": false, "seen<7d": false, "held:unknown": true,
		"authorised:unknown": true, "process:none": true, "service:none": true, "unit:any": false, "owner!=x": true,
		"reachable:none": true, "contradiction:none": true,
	} {
		s, err := selector.Parse(query)
		if err != nil || s.Match(sluicekeep.Profile{}, noon()) != want {
			t.Errorf("%s on an empty row is not %v (%v)", query, want, err)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		query  string
		column int
		hint   string
	}{
		{"prot:80", 1, "did you mean port?"},
		{"risk>=70 ownr:none", 10, "did you mean owner?"},
		{"port:0", 6, "1 to 65535"},
		{"port:65536", 6, "1 to 65535"},
		{"port:90-80", 6, "a range"},
		{"reachable:intranet", 11, "did you mean internet?"},
		{"family:ip", 8, "ipv4"},
		{"address:10.0.0.0/33", 9, "10.0.0.0/8"},
		{"risk>=high", 7, "write a number"},
		{"seen<soon", 6, "write a duration"},
		{"owner>x", 1, "owner:VALUE"},
		{"port:", 6, "write a value"},
		{":80", 1, "write a key before it"},
		{"a !=", 3, "write a key before it"},
		{"(port:80", 1, "close it with )"},
		{"port:80)", 8, "drop it"},
		{"a ()", 3, "drop it"},
		{"or a", 1, "quote"},
		{"a or", 5, "quote"},
		{"not", 4, "not wanted"},
		{`"abc`, 1, "close it"},
		{`ab"c"`, 3, "quote the whole value"},
		{`"ab"c`, 5, "put a blank"},
		{"größe prot:80", 7, "port"},
		{"a\x00b", 2, "type it again"},
		{"a \u202eb", 3, "type it again"},
		{strings.Repeat("(", 100) + "a" + strings.Repeat(")", 100), 65, "flatter"},
		{strings.Repeat("a", 5000), 4096, "shorter"},
	} {
		_, err := selector.Parse(tc.query)
		var e *selector.SyntaxError
		var said *sluicekeep.Error
		if !errors.As(err, &e) || !errors.As(err, &said) || said.Kind != sluicekeep.Invalid {
			t.Errorf("%q: want an Invalid syntax error, got %v", tc.query, err)
			continue
		}
		if e.Column != tc.column || !strings.Contains(said.Next, tc.hint) {
			t.Errorf("%q: column %d, want %d; hint %q, want %q", tc.query, e.Column, tc.column, said.Next, tc.hint)
		}
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		query string
		want  []string
	}{
		{"re", []string{"reachable:"}},
		{"port:80 re", []string{"reachable:"}},
		{"-re", []string{"-reachable:"}},
		{"(reachable:in", []string{"reachable:internet"}},
		{"family:", []string{"family:ipv4", "family:ipv6"}},
		{"family!=", []string{"family!=ipv4", "family!=ipv6"}},
		{"zzz", []string{}},
		{"zzz:", []string{}},
	} {
		if diff := cmp.Diff(tc.want, selector.Complete(tc.query)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.query, diff)
		}
	}
	if got := selector.Complete(""); len(got) != len(selector.Profiles().Keys) {
		t.Errorf("an empty query offers %d keys", len(got))
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	of := []string{"port", "owner", "env", "reachable"}
	for word, want := range map[string]string{
		"prot": "port", "Owner": "owner", "onwer": "owner", "reach": "reachable", "xyz": "", "": "", "en": "env",
		strings.Repeat("a", 1000): "",
	} {
		if got := selector.Nearest(word, of); got != want {
			t.Errorf("nearest of %.20q is %q, want %q", word, got, want)
		}
	}
}

// queries draws queries that parse.
func queries() *rapid.Generator[string] {
	term := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{
			"port:6379", "port!=80", "risk>=70", "owner:none", "seen<7d", `"a \"quoted\" \\ text"`, "redis", "env!=prod", "::1",
			"address:10.0.0.0/8", `owner:"none"`, `unit:"a b"`, "443/tcp", `"or"`, "contradiction:any", "reachable:segment", `"-x"`, `owner:"=x"`,
		}).Draw(t, "term")
	})
	var any func(depth int) *rapid.Generator[string]
	any = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			if depth == 0 {
				return term.Draw(t, "leaf")
			}
			switch rapid.IntRange(0, 4).Draw(t, "shape") {
			case 0:
				return any(depth-1).Draw(t, "l") + " or " + any(depth-1).Draw(t, "r")
			case 1:
				return any(depth-1).Draw(t, "l") + "  " + any(depth-1).Draw(t, "r")
			case 2:
				return "not " + any(depth-1).Draw(t, "n")
			case 3:
				return "( " + any(depth-1).Draw(t, "g") + ")"
			}
			return term.Draw(t, "leaf")
		})
	}
	return any(4)
}

// Parse and String are inverse: the canonical form is read back as it is, and
// selects the same.
func TestPrintedIsParsed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		query := queries().Draw(t, "query")
		s, err := selector.Parse(query)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		again, err := selector.Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%s → %s → %s (%v)", query, s, again, err)
		}
		for _, row := range []sluicekeep.Profile{redis(), {}} {
			if s.Match(row, noon()) != again.Match(row, noon()) {
				t.Fatalf("%s and %s select differently", query, s)
			}
		}
		not, err := selector.Parse("not (" + query + ")")
		if err != nil || not.Match(redis(), noon()) == s.Match(redis(), noon()) {
			t.Fatalf("not (%s) selects the same (%v)", query, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "port:80 or (a -b)", `owner:"x\"y"`, "::1", "a!=b", "not not x", "-(a)", "a and b", "x:=y", `"`, "seen<7d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		selector.Complete(query)
		if s, err := (selector.Vocabulary{}).Parse(query); err == nil {
			again, err := (selector.Vocabulary{}).Parse(s.String())
			if err != nil || again.String() != s.String() {
				t.Fatalf("labels: %q → %q → %q (%v)", query, s, again, err)
			}
		}
		s, err := selector.Parse(query)
		if err != nil {
			if e := selector.Fault(err); e.Column < 1 || e.Column > len(query)+1 {
				t.Fatalf("%q: column %d", query, e.Column)
			}
			return
		}
		again, err := selector.Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q → %q → %q (%v)", query, s, again, err)
		}
		if s.Match(redis(), noon()) != again.Match(redis(), noon()) {
			t.Fatalf("%q and %q select differently", query, s)
		}
	})
}

func TestTerms(t *testing.T) {
	t.Parallel()
	s, err := selector.Parse("port:80 (owner:none or not x)")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, term := range s.Terms() {
		keys = append(keys, term.Key)
	}
	if !slices.Equal(keys, []string{"port", "owner", ""}) {
		t.Errorf("%q", keys)
	}
}

func BenchmarkMatch(b *testing.B) {
	s, err := selector.Parse("reachable:internet risk>=70 (owner:none or seen<7d) redis")
	if err != nil {
		b.Fatal(err)
	}
	row := redis()
	for b.Loop() {
		s.Match(row, noon())
	}
}
