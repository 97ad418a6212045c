package selector

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicekeep/sluicekeep"
)

// Type says what values a key takes.
type Type string

// The types of values.
const (
	Text    Type = "text"
	Number  Type = "number"  // also ranges: 5900-5999
	Ports   Type = "port"    // a number, a range, or 443/tcp
	Address Type = "address" // an address or a prefix
	Age     Type = "age"     // a duration: how long ago
	Span    Type = "span"    // a duration: how long
	Choice  Type = "choice"  // one of Values
)

// Key is a word that may stand before an operator.
type Key struct {
	Name   string
	Type   Type
	Values []string // offered; of a Choice, all there are
	Doc    string   // one line for people
}

// Vocabulary is the set of keys of one kind of query. The zero Vocabulary
// takes any key as text: the labels of an asset.
type Vocabulary struct {
	Keys []Key
	// Words are the only bare words allowed; nil allows any.
	Words []string
}

// Profiles is the vocabulary of the ports table.
func Profiles() Vocabulary {
	zones := []string{"any", "none"}
	for _, z := range sluicekeep.Zones() {
		zones = append(zones, string(z))
	}
	yesno := []string{"true", "false", "unknown"}
	return Vocabulary{Keys: []Key{
		{"port", Ports, nil, "number, range or NUMBER/TRANSPORT"},
		{"transport", Choice, []string{"tcp", "udp", "sctp"}, "transport protocol"},
		{"family", Choice, []string{"ipv4", "ipv6"}, "address family"},
		{"address", Address, nil, "address it is bound to, or a prefix that holds it"},
		{"asset", Text, nil, "name of the asset"},
		{"env", Text, []string{"none"}, "environment of the asset"},
		{"owner", Text, []string{"none"}, "who owns it"},
		{"service", Text, []string{"none"}, "name or product of what answers"},
		{"process", Text, []string{"none"}, "executable that holds it"},
		{"unit", Text, []string{"none"}, "systemd unit that holds it"},
		{"container", Text, []string{"none"}, "container or image that holds it"},
		{"user", Text, []string{"none"}, "user that holds it"},
		{"reachable", Choice, zones, "zone from which a probe got through"},
		{"predicted", Choice, zones, "zone that the rules would let in"},
		{"declared", Choice, []string{"open", "partial", "closed", "none", "unknown"}, "what the rule stores say"},
		{"held", Choice, yesno, "whether a process listens"},
		{"authorised", Choice, yesno, "whether a grant covers it; unknown without a policy"},
		{"grant", Text, []string{"any", "none"}, "the grant that covers it"},
		{"guarded", Choice, []string{"true", "false"}, "whether a guard keeps part of it open"},
		{"closed", Text, []string{"any", "none"}, "the change that closes it"},
		{"contradiction", Text, []string{"any", "none"}, "kind of contradiction"},
		{"risk", Number, nil, "risk score, 0 to 100"},
		{"clients", Number, nil, "known clients"},
		{"seen", Age, nil, "how long ago it was last seen"},
		{"new", Age, nil, "how long ago it was first seen"},
	}}
}

// key finds a key by name.
func (v Vocabulary) key(name string) (Key, bool) {
	if len(v.Keys) == 0 {
		return Key{Name: name, Type: Text}, true
	}
	i := slices.IndexFunc(v.Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return v.Keys[i], true
}

// names lists the keys.
func (v Vocabulary) names() []string {
	out := make([]string, len(v.Keys))
	for i, k := range v.Keys {
		out[i] = k.Name
	}
	return out
}

// check refuses terms that can never hold: unknown keys, values of another
// type, comparisons of what has no order.
func (v Vocabulary) check(t Term, column, value int) (Term, error) {
	if t.Key == "" {
		switch bare := column == value; {
		case !bare:
			return t, wrong(column, "write a key before it, like port"+string(t.Op)+t.Value, "there is no key before %s", t.Op)
		case v.Words == nil || slices.Contains(v.Words, strings.ToLower(t.Value)):
			return t, nil
		}
		return t, wrong(column, suggest(t.Value, append(v.names(), v.Words...)), "unknown word %q", t.Value)
	}
	k, ok := v.key(t.Key)
	if !ok {
		return t, wrong(column, suggest(t.Key, v.names()), "unknown key %q", t.Key)
	}
	ordered := k.Type == Number || k.Type == Ports || k.Type == Age || k.Type == Span
	if !ordered && t.Op != Has && t.Op != Is && t.Op != IsNot {
		return t, wrong(column, "use "+t.Key+":VALUE or "+t.Key+"!=VALUE", "%s has no order, so %s means nothing", t.Key, t.Op)
	}
	if hint := k.refuses(t); hint != "" {
		return t, wrong(value, hint, "%q is not a value of %s", t.Value, t.Key)
	}
	return t, nil
}

// refuses returns what to write instead of a wrong value, or "".
func (k Key) refuses(t Term) string {
	switch k.Type {
	case Choice:
		if !slices.Contains(k.Values, strings.ToLower(t.Value)) {
			return suggest(t.Value, k.Values)
		}
	case Number:
		if _, _, ok := span(t.Value, 1e9); !ok {
			return "write a number, like " + k.Name + ">=70"
		}
	case Ports:
		if _, _, _, ok := portSpan(t.Value); !ok {
			return "write a port from 1 to 65535, a range like 5900-5999, or 443/tcp"
		}
	case Address:
		if _, ok := prefix(t.Value); !ok {
			return "write an address or a prefix, like 10.0.0.0/8"
		}
	case Age, Span:
		if _, err := sluicekeep.ParseDuration(t.Value); err != nil || t.Value == "" {
			return "write a duration, like " + k.Name + "<7d"
		}
	}
	return ""
}

// suggest words a hint: the nearest word, or all of them.
func suggest(word string, of []string) string {
	if near := Nearest(word, of); near != "" {
		return "did you mean " + near + "?"
	}
	return "use one of " + strings.Join(of, ", ")
}

// span reads "70" or "10-20", both ends at most limit.
func span(s string, limit uint64) (from, to uint64, ok bool) {
	a, b, ranged := strings.Cut(s, "-")
	from, err := strconv.ParseUint(a, 10, 64)
	if to = from; ranged && err == nil {
		to, err = strconv.ParseUint(b, 10, 64)
	}
	return from, to, err == nil && from <= to && to <= limit
}

// portSpan reads "443", "443/tcp" or "5900-5999".
func portSpan(s string) (from, to uint64, tr sluicekeep.Transport, ok bool) {
	num, name, given := strings.Cut(s, "/")
	from, to, ok = span(num, 65535)
	tr = sluicekeep.Transport(strings.ToLower(name))
	return from, to, tr, ok && from > 0 && (!given || tr.Number() > 0)
}

// prefix reads an address or a prefix.
func prefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), true
}

// Complete offers ways to go on with the last word of a query: whole words
// that would replace it, keys with their colon.
func (v Vocabulary) Complete(query string) []string {
	start := strings.LastIndexAny(query, " \t()") + 1
	lead, word := "", strings.ToLower(query[start:])
	if rest, found := strings.CutPrefix(word, "-"); found {
		lead, word = "-", rest
	}
	out := []string{}
	if n := strings.IndexAny(word, ":=!"); n >= 0 {
		k, ok := v.key(word[:n])
		op := word[n : n+len(word[n:])-len(strings.TrimLeft(word[n:], ":=!"))]
		for _, value := range k.Values {
			if ok && strings.HasPrefix(k.Name+op+value, word) {
				out = append(out, lead+k.Name+op+value)
			}
		}
		return out
	}
	for _, k := range v.Keys {
		if strings.HasPrefix(k.Name, word) {
			out = append(out, lead+k.Name+":")
		}
	}
	for _, w := range v.Words {
		if strings.HasPrefix(w, word) {
			out = append(out, lead+w)
		}
	}
	return out
}

// Nearest returns the word that was most likely meant: the one with the fewest
// edits, if they are few for its length; else "".
func Nearest(word string, of []string) string {
	word = strings.ToLower(word)
	best, fewest := "", 3
	if len(word) > 64 {
		return ""
	}
	for _, w := range of {
		d := edits(word, w)
		if d < fewest && d < len(w) && d*2 <= max(len(w), 2) {
			best, fewest = w, d
		}
		if fewest > 1 && len(word) >= 3 && strings.HasPrefix(w, word) {
			best, fewest = w, 1
		}
	}
	return best
}

// edits counts insertions, deletions, replacements and swaps of neighbours
// (optimal string alignment).
func edits(a, b string) int {
	before, last := []int{}, make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
