package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluicekeep/sluicekeep/selector"
)

// decoder reads nodes strictly, notes every problem and goes on.
type decoder struct {
	file     string
	problems Problems
	keys     map[string][]string // every object's keys, to compare with the schema
}

// field is one key of an object.
type field struct {
	name     string
	required bool
	read     func(*yaml.Node)
}

// place says where a node stands.
func (d *decoder) place(n *yaml.Node) Place { return Place{d.file, n.Line, n.Column} }

// wrong notes a problem.
func (d *decoder) wrong(n *yaml.Node, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.place(n), fmt.Sprintf(format, args...), hint})
}

// object reads a mapping by its fields; what names it in errors.
func (d *decoder) object(n *yaml.Node, what string, fields ...field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	if d.keys != nil {
		d.keys[what] = names
	}
	if !d.mapping(n, what) {
		return
	}
	seen := map[string]bool{}
	d.pairs(n, func(key, value *yaml.Node) {
		i := slices.Index(names, key.Value)
		if i < 0 {
			hint := "the keys are " + strings.Join(names, ", ")
			if near := selector.Nearest(key.Value, names); near != "" {
				hint = "did you mean " + near + "?"
			}
			d.wrong(key, hint, "%s has no key %s", what, quoted(key.Value))
			return
		}
		seen[key.Value] = true
		fields[i].read(value)
	})
	for _, f := range fields {
		if f.required && !seen[f.name] {
			d.wrong(n, "add it", "%s lacks %s", what, f.name)
		}
	}
}

// mapping notes what is no mapping.
func (d *decoder) mapping(n *yaml.Node, what string) bool {
	if n.Kind == yaml.MappingNode {
		return true
	}
	d.wrong(n, "write key: value pairs", "%s is not a mapping", what)
	return false
}

// pairs calls f with every key and value, and notes keys given twice.
func (d *decoder) pairs(n *yaml.Node, f func(key, value *yaml.Node)) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch first, twice := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.wrong(key, "write a plain word", "a key is not a word")
		case twice:
			d.wrong(key, "keep one of them", "%s is given twice, first in line %d", quoted(key.Value), first)
		case value.Kind == yaml.AliasNode || value.Anchor != "":
			d.wrong(value, "write it out", "anchors and aliases are not read")
		default:
			lines[key.Value] = key.Line
			f(key, value)
		}
	}
}

// named reads a mapping of names to things.
func (d *decoder) named(n *yaml.Node, what string, read func(key, value *yaml.Node)) {
	if !d.mapping(n, what) {
		return
	}
	d.pairs(n, func(key, value *yaml.Node) {
		if !validName(key.Value) {
			d.wrong(key, "use letters, digits, - _ and .", "%s is not a name", quoted(key.Value))
			return
		}
		read(key, value)
	})
}

// validName allows what is safe in every shell, URL and selector.
func validName(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '-' || s[0] == '.' {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)) {
			return false
		}
	}
	return true
}

// list reads a sequence.
func (d *decoder) list(n *yaml.Node, what string, read func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, "write a list: - …", "%s is not a list", what)
		return
	}
	for _, item := range n.Content {
		if item.Kind == yaml.AliasNode || item.Anchor != "" {
			d.wrong(item, "write it out", "anchors and aliases are not read")
			continue
		}
		read(item)
	}
}

// oneOrMany reads a value, or a list of values.
func (d *decoder) oneOrMany(n *yaml.Node, what string, read func(*yaml.Node)) {
	if n.Kind == yaml.SequenceNode {
		d.list(n, what, read)
		return
	}
	read(n)
}

// scalar returns the text of a plain value.
func (d *decoder) scalar(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.wrong(n, "", "%s is not a plain value", what)
		return "", false
	}
	return n.Value, true
}

// text reads a text of at most 500 characters without control characters.
func (d *decoder) text(what string, to *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		s, ok := d.scalar(n, what)
		switch {
		case !ok:
		case len([]rune(s)) > 500:
			d.wrong(n, "say it shorter", "%s is longer than 500 characters", what)
		case strconv.Quote(s) != `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)+`"`:
			d.wrong(n, "type it again without them", "%s has control characters: %s", what, quoted(s))
		default:
			*to = s
		}
	}
}

// choice reads one of some words.
func (d *decoder) choice(what string, words []string, to func(string)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		if !slices.Contains(words, s) {
			d.wrong(n, d.meant(s, words), "%s cannot be %s", what, quoted(s))
			return
		}
		to(s)
	}
}

// meant words the hint for a wrong word.
func (d *decoder) meant(s string, words []string) string {
	if near := selector.Nearest(s, words); near != "" {
		return "did you mean " + near + "?"
	}
	return "use " + strings.Join(words, ", ")
}

// number reads an integer.
func (d *decoder) number(what string, from, to int, set func(int)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		v, err := strconv.Atoi(s)
		if err != nil || v < from || v > to {
			d.wrong(n, fmt.Sprintf("write a number from %d to %d", from, to), "%s cannot be %s", what, quoted(s))
			return
		}
		set(v)
	}
}

// prefix reads a CIDR; host bits that are set are a mistake worth naming.
func (d *decoder) prefix(n *yaml.Node, s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, bad := netip.ParseAddr(s)
		if bad != nil || a.Zone() != "" {
			d.wrong(n, "write it like 10.0.0.0/8 or fd00::/8", "%s is not an address or prefix", quoted(s))
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		d.wrong(n, "write the IPv4 prefix itself", "%s is an IPv4 prefix in IPv6 dress", quoted(s))
		return netip.Prefix{}, false
	}
	if p != p.Masked() {
		d.wrong(n, fmt.Sprintf("write %s, or %s/%d", p.Masked(), p.Addr(), p.Addr().BitLen()),
			"%s has host bits set", quoted(s))
		return netip.Prefix{}, false
	}
	return p, true
}

// instant reads a date or an RFC 3339 time. A date is its end, in UTC.
func (d *decoder) instant(what string, dates bool, to *time.Time) func(*yaml.Node) {
	return func(n *yaml.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		if at, err := time.Parse(time.RFC3339, s); err == nil {
			*to = at.UTC()
			return
		}
		if at, err := time.Parse(time.DateOnly, s); err == nil && dates {
			*to = at.UTC().Add(24 * time.Hour)
			return
		}
		hint := "write it like 2026-11-24T18:00:00+08:00"
		if dates {
			hint = "write it like 2027-03-31"
		}
		d.wrong(n, hint, "%s is not an instant: %s", what, quoted(s))
	}
}
