package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/sluicekeep/sluicekeep"
)

// Delta is one difference in meaning.
type Delta struct {
	Kind    string // sources | asset | mode | guard | approval | weights
	On      string // the asset
	Port    sluicekeep.Port
	HeldBy  string         // the holder it is about, empty: any
	Gains   []netip.Prefix // sources that get in
	Loses   []netip.Prefix // sources that no longer do
	From    time.Time      // the difference starts then; zero: at once
	Until   time.Time      // and ends then; zero: never
	Clients []sluicekeep.Client
	Opens   bool   // lets more through than before
	Text    string // for people
}

// Against is what a diff is made against: the machine whose zones resolve the
// sources, its known clients and the clock.
type Against struct {
	Machine Machine
	Clients []sluicekeep.Client
	Now     time.Time
}

// Diff tells how new differs from old in meaning: exactly which (asset, family,
// source, transport, port, holder, time) tuples come and go, and which rules
// about rules change. Nil policies are empty. Files that mean the same have no
// differences.
func Diff(old, now *Policy, a Against) []Delta {
	was, is := reach(old, a), reach(now, a)
	var out []Delta
	keys := maps.Clone(was)
	maps.Copy(keys, is)
	for _, k := range slices.SortedFunc(maps.Keys(keys), compareTuple) {
		out = append(out, diffTuple(k, was, is, a)...)
	}
	return append(out, diffRules(old, now)...)
}

// tuple is the discrete part of what a policy grants; holder is empty where
// anybody may hold the port.
type tuple struct {
	on     string
	port   sluicekeep.Port
	holder sluicekeep.Identity
}

func compareTuple(a, b tuple) int {
	return cmp.Or(cmp.Compare(a.on, b.on), cmp.Compare(a.port.Number, b.port.Number),
		cmp.Compare(a.port.Transport, b.port.Transport), cmp.Compare(holderText(a.holder), holderText(b.holder)))
}

// holderText names an identity.
func holderText(id sluicekeep.Identity) string {
	var parts []string
	for _, p := range [][2]string{{"unit ", id.Unit}, {"image ", id.Image}, {"exe ", id.Exe}, {"package ", id.Package}} {
		if p[1] != "" {
			parts = append(parts, p[0]+p[1])
		}
	}
	return strings.Join(parts, ", ")
}

// span is a set of sources that get in until an instant; zero: for ever.
type span struct {
	set   *netipx.IPSet
	until time.Time
}

// reach is everything a policy grants.
func reach(p *Policy, a Against) map[tuple][]span {
	out := map[tuple][]span{}
	if p == nil {
		return out
	}
	h := p.For(a.Machine)
	for i := range p.Grants {
		g := h.resolve(&p.Grants[i])
		if !Live(&g, a.Now) {
			continue
		}
		for _, port := range g.Ports {
			k := tuple{on: g.Asset, port: port}
			if g.HeldBy != nil {
				k.holder = *g.HeldBy
			}
			out[k] = append(out[k], span{sourceSet(g.From), g.Until})
		}
	}
	return out
}

// sourceSet is the set of prefixes; none mean everyone.
func sourceSet(from []netip.Prefix) *netipx.IPSet {
	if len(from) == 0 {
		return everyone()
	}
	var b netipx.IPSetBuilder
	for _, p := range from {
		b.AddPrefix(p)
	}
	return setOf(&b)
}

// at returns who gets in at an instant. Grants for any holder also let the one
// holder's clients in.
func at(grants map[tuple][]span, k tuple, when time.Time) *netipx.IPSet {
	var b netipx.IPSetBuilder
	keys := []tuple{k}
	if k.holder != (sluicekeep.Identity{}) {
		keys = append(keys, tuple{on: k.on, port: k.port})
	}
	for _, k := range keys {
		for _, s := range grants[k] {
			if s.until.IsZero() || when.Before(s.until) {
				b.AddSet(s.set)
			}
		}
	}
	return setOf(&b)
}

// minus is set difference.
func minus(a, b *netipx.IPSet) *netipx.IPSet {
	var builder netipx.IPSetBuilder
	builder.AddSet(a)
	builder.RemoveSet(b)
	return setOf(&builder)
}

// diffTuple compares one tuple over time: between two ends of grants nothing
// changes, so one instant stands for each stretch.
func diffTuple(k tuple, was, is map[tuple][]span, a Against) []Delta {
	var out []Delta
	start := a.Now
	for _, end := range append(ends(k, was, is), time.Time{}) {
		before, after := at(was, k, start), at(is, k, start)
		gains, loses := minus(after, before), minus(before, after)
		if k.holder != (sluicekeep.Identity{}) {
			any := tuple{on: k.on, port: k.port}
			gains = minus(gains, minus(at(is, any, start), at(was, any, start)))
			loses = minus(loses, minus(at(was, any, start), at(is, any, start)))
		}
		d := Delta{
			Kind: "sources", On: k.on, Port: k.port, HeldBy: holderText(k.holder), Gains: gains.Prefixes(),
			Loses: loses.Prefixes(), Until: end, Opens: len(gains.Prefixes()) > 0,
		}
		if !start.Equal(a.Now) {
			d.From = start
		}
		out, start = extend(out, d), end
	}
	for i := range out {
		out[i].tell(a)
	}
	return out
}

// ends lists the instants at which grants of a tuple end, in order.
func ends(k tuple, policies ...map[tuple][]span) []time.Time {
	var out []time.Time
	for _, grants := range policies {
		for _, k := range []tuple{k, {on: k.on, port: k.port}} {
			for _, s := range grants[k] {
				if !s.until.IsZero() {
					out = append(out, s.until)
				}
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

// extend appends a stretch, or lengthens the last one when it is the same.
func extend(out []Delta, d Delta) []Delta {
	if len(d.Gains) == 0 && len(d.Loses) == 0 {
		return out
	}
	if n := len(out) - 1; n >= 0 && out[n].Until.Equal(d.From) &&
		slices.Equal(out[n].Gains, d.Gains) && slices.Equal(out[n].Loses, d.Loses) {
		out[n].Until = d.Until
		return out
	}
	return append(out, d)
}

// tell fills in the clients who lose and the sentence.
func (d *Delta) tell(a Against) {
	loses := sourceSet(d.Loses)
	for _, c := range a.Clients {
		if len(d.Loses) > 0 && c.Port == d.Port && loses.Contains(c.Source.Unmap().WithZone("")) {
			d.Clients = append(d.Clients, c)
		}
	}
	var parts []string
	if len(d.Loses) > 0 {
		s := fmt.Sprintf("%s %s %s on %s", sourceText(d.Loses), verb("lose", d.Loses), portText(d.Port), d.On)
		if len(d.Clients) > 0 {
			s += ": " + count(distinct(d.Clients), "known client")
		}
		parts = append(parts, s)
	}
	if len(d.Gains) > 0 {
		parts = append(parts, fmt.Sprintf("%s %s %s on %s", sourceText(d.Gains), verb("gain", d.Gains), portText(d.Port), d.On))
	}
	d.Text = strings.Join(parts, "; ")
	if d.HeldBy != "" {
		d.Text += ", held by " + d.HeldBy
	}
	if !d.From.IsZero() {
		d.Text += " from " + d.From.UTC().Format(time.RFC3339)
	}
	if !d.Until.IsZero() {
		d.Text += " until " + d.Until.UTC().Format(time.RFC3339)
	}
}

func distinct(cs []sluicekeep.Client) int {
	seen := map[netip.Addr]bool{}
	for _, c := range cs {
		seen[c.Source] = true
	}
	return len(seen)
}

// everybody reports whether the prefixes are all there are, of both families.
func everybody(ps []netip.Prefix) bool {
	return len(ps) == 2 && ps[0].Bits() == 0 && ps[1].Bits() == 0
}

// sourceText names sources; of many, the first few.
func sourceText(ps []netip.Prefix) string {
	if everybody(ps) {
		return "everyone"
	}
	const most = 6
	names := make([]string, 0, most)
	for _, p := range ps[:min(len(ps), most)] {
		if p.IsSingleIP() {
			names = append(names, p.Addr().String())
		} else {
			names = append(names, p.String())
		}
	}
	s := strings.Join(names, ", ")
	if len(ps) > most {
		s += fmt.Sprintf(" and %d more prefixes", len(ps)-most)
	}
	return s
}

// verb conjugates for one source or several.
func verb(stem string, ps []netip.Prefix) string {
	if len(ps) == 1 || everybody(ps) {
		return stem + "s"
	}
	return stem
}

func portText(p sluicekeep.Port) string {
	if p.Number == 0 {
		return "any " + string(p.Transport) + " port"
	}
	return p.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
