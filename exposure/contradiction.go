package exposure

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// The kinds of contradiction: stable words that programs read.
const (
	PublishedPastFirewall      = "published_past_firewall"
	OpenOnIPv6Only             = "open_on_ipv6_only"
	AllowedButNobodyListens    = "allowed_but_nobody_listens"
	BlockedByHiddenStore       = "blocked_by_hidden_store"
	TwoStoresActive            = "two_stores_active"
	Shadowed                   = "shadowed"
	BoundBeyondPolicy          = "bound_beyond_policy"
	IdentityChanged            = "identity_changed"
	ExpiredGrantOpen           = "expired_grant_open"
	DeclaredClosedButReachable = "declared_closed_but_reachable"
	DeclaredOpenButUnreachable = "declared_open_but_unreachable"
)

// unproved ends every cause that rests on the rules alone.
const unproved = " (not probed; add a vantage to prove it)"

// contradict finds the contradictions of a row. While a change of ours closes
// the port, the rules are meant to disagree with the socket: none is told.
func (g *folder) contradict(r *row) []sluicekeep.Contradiction {
	out := []sluicekeep.Contradiction{}
	if r.Closed != "" {
		return out
	}
	for _, check := range []func(*row) *sluicekeep.Contradiction{
		g.publishedPast, g.onlyIPv6, g.nobodyListens, g.blocked, g.shadowed,
		g.beyondPolicy, g.expired, g.changed, g.leaks, g.unreachable,
	} {
		if c := check(r); c != nil {
			out = append(out, *c)
		}
	}
	return out
}

// claim is a contradiction before it is put into words.
type claim struct {
	kind   string
	zone   sluicekeep.Zone // from where, if that matters
	rule   string
	writer string
	remedy string
	proof  string // probe | rules | "" where there is nothing to prove
	values sluicekeep.Fields
}

// say puts a claim into words, with every value a translation needs.
func (g *folder) say(r *row, c claim, format string, args ...any) *sluicekeep.Contradiction {
	cause := clean(fmt.Sprintf(format, args...))
	if c.proof == "rules" {
		cause += unproved
	}
	v := sluicekeep.Fields{
		"port": r.Port.String(), "number": fmt.Sprint(r.Number), "transport": string(r.Transport),
		"family": string(r.Family), "address": r.Address.String(), "zone": string(c.zone),
		"rule": clean(c.rule), "writer": clean(c.writer), "process": clean(holderName(r.Process)), "proof": c.proof,
	}
	for k, s := range c.values {
		v[k] = clean(s)
	}
	return &sluicekeep.Contradiction{
		Kind: c.kind, Cause: cause, Rule: clean(c.rule), Remedy: clean(c.remedy), Values: v,
	}
}

// maxText bounds what a rule or a process may add to a sentence.
const maxText = 600

// clean takes out what could deceive a reader: control and direction
// characters.
func clean(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.C, r) || r == unicode.ReplacementChar || r == '\u2028' || r == '\u2029' {
			return -1
		}
		return r
	}, s)
}

// holderName is how people know a process: its unit, container or executable.
func holderName(p *sluicekeep.Process) string {
	switch {
	case p == nil:
		return ""
	case p.Container != "":
		return "container " + p.Container
	case p.Unit != "":
		return p.Unit
	}
	return p.Exe
}

// zoneName writes a zone in a sentence.
func zoneName(z sluicekeep.Zone) string {
	return map[sluicekeep.Zone]string{
		sluicekeep.ZoneHost: "the host itself", sluicekeep.ZoneSegment: "the segment",
		sluicekeep.ZoneOrganisation: "the organisation", sluicekeep.ZoneInternet: "the internet",
	}[z]
}

// writerName writes who made a rule.
func writerName(w string) string {
	if w == "" || w == "hand" {
		return "a NAT rule"
	}
	return w
}

// proofOf says what an open answer rests on.
func proofOf(r *row, z sluicekeep.Zone) string {
	if *r.Reachable.Of(z) != sluicekeep.ReachUnknown {
		return "probe"
	}
	return "rules"
}

// openZone returns the outermost zone from which a row is open, "" for none.
func openZone(r *row) sluicekeep.Zone {
	for _, z := range outside() {
		if openFrom(&r.Profile, z) {
			return z
		}
	}
	return ""
}

// decider finds the rule that decides about a sample of an answer.
func (j *judge) decider(a firewall.Answer) sluicekeep.PathStep {
	if !a.Sample.Dst.IsValid() {
		return sluicekeep.PathStep{}
	}
	for _, s := range j.Trace(a.Sample).Steps {
		if s.Decides {
			return s
		}
	}
	return sluicekeep.PathStep{}
}

// stepText is the text of the rule of a step, or of the policy.
func stepText(s sluicekeep.PathStep) string {
	switch {
	case s.Rule != "":
		return s.Rule
	case strings.HasPrefix(s.Verdict, "policy"):
		return strings.TrimSpace(fmt.Sprintf("%s of chain %s in table %s", s.Verdict, s.Chain, s.Table))
	}
	return s.Verdict
}

// stepPlace says where a step's rule is kept.
func stepPlace(s sluicekeep.PathStep) string {
	return strings.TrimSpace(strings.Join([]string{s.Store, "table " + s.Table, "chain " + s.Chain}, ", "))
}

// publishedPast finds ports that the input rules close and that NAT carries
// past them: what docker does beside ufw.
func (g *folder) publishedPast(r *row) *sluicekeep.Contradiction {
	if r.pub == nil || g.grantedToAll(r) {
		return nil
	}
	for _, z := range outside() {
		sample := r.rules[z].Sample
		if !openFrom(&r.Profile, z) || !sample.Dst.IsValid() {
			continue
		}
		d := firewall.Eval(g.host.Rules, firewall.HookInput, sample)
		if !d.Sure || d.Verdict == firewall.Accept {
			continue
		}
		target := "another port"
		if r.pub.To.IsValid() {
			target = netip.AddrPortFrom(r.pub.To, max(r.pub.ToPort, 0)).String()
			if r.pub.ToPort == 0 {
				target = netip.AddrPortFrom(r.pub.To, r.Number).String()
			}
		}
		return g.say(r, claim{
			kind: PublishedPastFirewall, zone: z, rule: r.pub.Rule, writer: r.pub.Writer, proof: proofOf(r, z),
			remedy: "close it with `sluicekeep close " + r.Port.String() + "`, which also shuts published ports, " +
				"or publish it on 127.0.0.1 only",
			values: sluicekeep.Fields{"target": target, "blocking_rule": stepText(d.Step)},
		}, "the firewall closes %s (%s), but %s publishes it past the firewall to %s (%s): open from %s",
			r.Port, stepText(d.Step), writerName(r.pub.Writer), target, r.pub.Rule, zoneName(z))
	}
	return nil
}

// grantedToAll reports whether a live grant lets everyone in.
func (g *folder) grantedToAll(r *row) bool {
	from, granted := g.granted(r)
	return granted && len(from) == 0
}

// granted returns the sources of the live grants of the row's port; none mean
// everyone.
func (g *folder) granted(r *row) (from []netip.Prefix, granted bool) {
	if r.Grant == nil {
		return nil, false
	}
	for i := range g.Grants {
		q := &g.Grants[i]
		if !g.live(q) || !slices.Contains(q.Ports, r.Port) && q.ID != *r.Grant {
			continue
		}
		if len(q.From) == 0 {
			return nil, true
		}
		from = append(from, q.From...)
	}
	return from, len(from) > 0
}

func (g *folder) live(q *sluicekeep.Grant) bool {
	return q.Tombstone == "" && (q.Until.IsZero() || g.At.Before(q.Until))
}

// onlyIPv6 finds ports that are shut over IPv4 and open over IPv6.
func (g *folder) onlyIPv6(r *row) *sluicekeep.Contradiction {
	z := openZone(r)
	if r.Family != sluicekeep.IPv6 || z == "" || !g.all.Filters(sluicekeep.IPv4) {
		return nil
	}
	four := &row{Profile: sluicekeep.Profile{Address: netip.IPv4Unspecified(), Port: r.Port}, iface: r.iface}
	a := g.all.ask(four, z)
	if !shut(a.Reach) {
		return nil
	}
	step := g.all.decider(a)
	how := "no rule closes IPv6"
	if g.all.Filters(sluicekeep.IPv6) {
		how = "the IPv6 rules let it in"
	}
	return g.say(r, claim{
		kind: OpenOnIPv6Only, zone: z, rule: stepText(step), writer: step.Writer, proof: proofOf(r, z),
		remedy: "close both families with `sluicekeep close " + r.Port.String() + "`, or give IPv6 the same rule",
		values: sluicekeep.Fields{"place": stepPlace(step)},
	}, "IPv4 closes %s (%s), but %s: open from %s over IPv6", r.Port, stepText(step), how, zoneName(z))
}

// nobodyListens finds ports that a rule lets in, or NAT publishes, for nobody.
func (g *folder) nobodyListens(r *row) *sluicekeep.Contradiction {
	if r.Held == nil || *r.Held {
		return nil
	}
	remedy := "remove the rule: whatever listens there next would be open at once"
	switch {
	case r.pub != nil:
		return g.say(r, claim{
			kind: AllowedButNobodyListens, rule: r.pub.Rule, writer: r.pub.Writer, remedy: remedy,
		}, "%s publishes %s (%s), but nobody listens behind it", writerName(r.pub.Writer), r.Port, r.pub.Rule)
	case r.open != nil:
		return g.say(r, claim{
			kind: AllowedButNobodyListens, rule: r.open.Rule, writer: r.open.Writer, remedy: remedy,
			values: sluicekeep.Fields{"table": r.open.Table},
		}, "the rules let %s in (%s), but nobody listens there", r.Port, r.open.Rule)
	}
	return nil
}

// held reports whether a socket or publication that others could reach holds
// the row.
func held(r *row) bool { return r.Held != nil && *r.Held && !r.Address.IsLoopback() && r.iface != "lo" }

// blocked finds listeners that one store lets in and another shuts: above all
// rules of iptables-legacy, which `nft list ruleset` does not show.
func (g *folder) blocked(r *row) *sluicekeep.Contradiction {
	if !held(r) || len(g.stores) == 0 || openZone(r) != "" {
		return nil
	}
	for _, z := range outside() {
		a := r.rules[z]
		if !shut(a.Reach) || *r.Reachable.Of(z) == sluicekeep.ReachOpen || g.beyond(r, z) {
			continue
		}
		if slices.Contains(g.stores, firewall.StoreIPTablesLegacy) &&
			g.visible().ask(r, z).Reach == sluicekeep.ReachOpen {
			step := g.all.decider(a)
			return g.say(r, claim{
				kind: BlockedByHiddenStore, zone: z, rule: stepText(step), writer: step.Writer, proof: proofOf(r, z),
				remedy: "look at it with `iptables-legacy-save`, and keep the rules in one store",
				values: sluicekeep.Fields{"store": string(firewall.StoreIPTablesLegacy), "place": stepPlace(step)},
			}, "%s listens on %s, and nft shows nothing against it, but iptables-legacy shuts it to %s (%s)",
				listener(r), r.Port, zoneName(z), stepText(step))
		}
		return g.disagree(r, z)
	}
	return nil
}

// listener names who holds a row, at the start of a sentence.
func listener(r *row) string {
	if s := holderName(r.Process); s != "" {
		return s
	}
	return "somebody"
}

// disagree finds two stores of which one accepts a held port by name and the
// other shuts it.
func (g *folder) disagree(r *row, z sluicekeep.Zone) *sluicekeep.Contradiction {
	if len(g.stores) < 2 {
		return nil
	}
	for _, s := range g.stores {
		o := g.opens(s, r)
		if o == nil || g.store(s).ask(r, z).Reach != sluicekeep.ReachOpen {
			continue
		}
		for _, other := range g.stores {
			a := g.store(other).ask(r, z)
			if other == s || !shut(a.Reach) {
				continue
			}
			step := g.store(other).decider(a)
			return g.say(r, claim{
				kind: TwoStoresActive, zone: z, rule: stepText(step), writer: step.Writer, proof: proofOf(r, z),
				remedy: "keep the rules in one store: a packet must pass both",
				values: sluicekeep.Fields{"store": string(other), "other_store": string(s), "other_rule": o.Rule},
			}, "%s lets %s in (%s), but %s shuts it to %s (%s)", s, r.Port, o.Rule, other, zoneName(z), stepText(step))
		}
	}
	return nil
}

// shadowed finds rules that accept a held port and never get to see a packet,
// because an earlier rule of the same store takes them all.
func (g *folder) shadowed(r *row) *sluicekeep.Contradiction {
	if !held(r) || r.Declared != sluicekeep.DeclaredClosed || r.pub != nil || openZone(r) != "" {
		return nil
	}
	q := firewall.Query{Dst: r.Address, Port: r.Port}
	for _, s := range g.stores {
		o := g.opens(s, r)
		if o == nil || g.store(s).Declared(q) != sluicekeep.DeclaredClosed || !g.alone(s, o, r) {
			continue
		}
		for _, z := range outside() {
			a := g.store(s).ask(r, z)
			if !shut(a.Reach) {
				continue
			}
			step := g.store(s).decider(a)
			return g.say(r, claim{
				kind: Shadowed, zone: z, rule: stepText(step), writer: step.Writer, proof: proofOf(r, z),
				remedy: "move the accepting rule before the other, or remove it",
				values: sluicekeep.Fields{"store": string(s), "shadowed_rule": o.Rule, "place": stepPlace(step)},
			}, "a rule lets %s in (%s), but never sees a packet: %s comes first", r.Port, o.Rule, stepText(step))
		}
	}
	return nil
}

// alone reports whether an accepting rule, were it the only one, would let
// ordinary clients in: rules for DHCP answers or multicast would not.
func (g *folder) alone(s firewall.Store, o *firewall.Opening, r *row) bool {
	for _, t := range g.host.Rules.Tables {
		if t.Store != s || t.Name != o.Table {
			continue
		}
		for _, ch := range t.Chains {
			for _, rule := range ch.Rules {
				if rule.Text == o.Rule && rule.Action.Verdict == firewall.Accept {
					return g.wouldOpen(t, rule, r)
				}
			}
		}
	}
	return false
}

func (g *folder) wouldOpen(t firewall.Table, rule firewall.Rule, r *row) bool {
	t.Chains = []firewall.Chain{{
		Name: "alone", Hook: firewall.HookInput, Type: "filter", Policy: firewall.Drop, Rules: []firewall.Rule{rule},
	}}
	h := g.host
	h.Rules = &firewall.Ruleset{Tables: []firewall.Table{t}}
	switch firewall.NewEvaluator(h).Declared(firewall.Query{Dst: r.Address, Port: r.Port}) {
	case sluicekeep.DeclaredOpen, sluicekeep.DeclaredPartial:
		return true
	}
	return false
}
