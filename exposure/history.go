package exposure

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// beyondPolicy finds granted ports that are also open to others than those the
// grants name.
func (g *folder) beyondPolicy(r *row) *sluicekeep.Contradiction {
	from, granted := g.granted(r)
	if !granted || len(from) == 0 {
		return nil
	}
	for _, z := range outside() {
		if !openFrom(&r.Profile, z) || !g.ungranted(r, z, from) {
			continue
		}
		return g.say(r, claim{
			kind: BoundBeyondPolicy, zone: z, proof: proofOf(r, z),
			remedy: "narrow it to the granted sources: `sluicekeep close " + r.Port.String() + keeps(from) + "`",
			values: sluicekeep.Fields{"grant": *r.Grant, "granted": prefixText(from)},
		}, "grant %s lets only %s use %s, but it is open from %s", *r.Grant, prefixText(from), r.Port, zoneName(z))
	}
	return nil
}

// ungranted reports whether the rules let in some source of a zone that no
// grant names.
func (g *folder) ungranted(r *row, z sluicekeep.Zone, from []netip.Prefix) bool {
	k := sourceKey{z + sluicekeep.Zone(" but "+prefixText(from)), r.iface}
	if _, ok := g.all.sources[k]; !ok {
		zone, known := g.zones[z]
		if !known {
			return false
		}
		zone.Except = slices.Concat(zone.Except, from)
		if r.iface != "" {
			zone.Iif = []string{r.iface}
		}
		g.all.sources[k] = g.all.From(zone)
	}
	return g.all.ask(r, k.zone).Reach == sluicekeep.ReachOpen
}

// prefixText writes prefixes, single addresses without their length.
func prefixText(ps []netip.Prefix) string {
	var names []string
	for _, p := range ps {
		s := p.String()
		if p.IsSingleIP() {
			s = p.Addr().String()
		}
		if !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	return strings.Join(names, ", ")
}

// keeps writes prefixes as options of close.
func keeps(ps []netip.Prefix) string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(" --keep " + p.String())
	}
	return b.String()
}

// expired finds ports that are open although their grant has ended.
func (g *folder) expired(r *row) *sluicekeep.Contradiction {
	z := openZone(r)
	if z == "" || r.Grant != nil {
		return nil
	}
	for i := range g.Grants {
		q := &g.Grants[i]
		if g.live(q) || !slices.Contains(q.Ports, r.Port) {
			continue
		}
		ended, how := q.Until.UTC().Format(time.RFC3339), "ended at "+q.Until.UTC().Format(time.RFC3339)
		if q.Tombstone != "" {
			ended, how = "", "was ended: "+q.Tombstone
		}
		return g.say(r, claim{
			kind: ExpiredGrantOpen, zone: z, proof: proofOf(r, z),
			remedy: "close it with `sluicekeep close " + r.Port.String() + "`, or ask for a new grant",
			values: sluicekeep.Fields{"grant": q.ID, "until": ended, "tombstone": q.Tombstone},
		}, "grant %s for %s %s, but it is still open from %s", q.ID, r.Port, how, zoneName(z))
	}
	return nil
}

// noticed is how long a new holder of a port is told of.
const noticed = 24 * time.Hour

// changed finds ports that somebody else holds than before, or than the grant
// names.
func (g *folder) changed(r *row) *sluicekeep.Contradiction {
	if r.Process == nil {
		return nil
	}
	if c := g.usurped(r); c != nil {
		return c
	}
	if r.prior == nil || r.prior.Process == nil {
		return nil
	}
	if was, is, differ := holders(r.prior.Process, r.Process); differ {
		return g.newHolder(r, was, is, g.At)
	}
	for _, c := range r.prior.Contradictions {
		since, err := time.Parse(time.RFC3339, c.Values["since"])
		if c.Kind == IdentityChanged && err == nil && g.At.Before(since.Add(noticed)) {
			return g.newHolder(r, c.Values["was"], c.Values["is"], since)
		}
	}
	return nil
}

func (g *folder) newHolder(r *row, was, is string, since time.Time) *sluicekeep.Contradiction {
	at := since.UTC().Format(time.RFC3339)
	return g.say(r, claim{
		kind: IdentityChanged, remedy: "find out who started it; a grant with held_by ends by itself in such a case",
		values: sluicekeep.Fields{"was": was, "is": is, "since": at},
	}, "%s was held by %s and is held by %s since %s", r.Port, was, is, at)
}

// usurped finds a grant for somebody else than who holds the port.
func (g *folder) usurped(r *row) *sluicekeep.Contradiction {
	if r.Grant != nil {
		return nil
	}
	for i := range g.Grants {
		q := &g.Grants[i]
		if q.HeldBy == nil || !g.live(q) || !slices.Contains(q.Ports, r.Port) {
			continue
		}
		was, is := identityText(*q.HeldBy), holderName(r.Process)
		return g.say(r, claim{
			kind: IdentityChanged, remedy: "stop the other process, or ask for a grant for it",
			values: sluicekeep.Fields{"grant": q.ID, "was": was, "is": is},
		}, "grant %s for %s is for %s only, but %s holds it: the grant is void", q.ID, r.Port, was, is)
	}
	return nil
}

func identityText(id sluicekeep.Identity) string {
	for _, s := range []string{id.Unit, id.Image, id.Exe, id.Package} {
		if s != "" {
			return s
		}
	}
	return "nobody"
}

// holders compares two holders by the most stable thing that both tell: image,
// unit, executable. A socket that systemd holds for a unit is the unit's.
func holders(a, b *sluicekeep.Process) (was, is string, differ bool) {
	if path.Base(a.Exe) == "systemd" || path.Base(b.Exe) == "systemd" {
		return "", "", false
	}
	for _, pair := range [][2]string{
		{a.Image, b.Image}, {a.Unit, b.Unit}, {trimDeleted(a.Exe), trimDeleted(b.Exe)},
	} {
		if pair[0] != "" && pair[1] != "" {
			return pair[0], pair[1], pair[0] != pair[1]
		}
	}
	return "", "", false
}

// trimDeleted drops what /proc adds to the path of a replaced file.
func trimDeleted(exe string) string { return strings.TrimSuffix(exe, " (deleted)") }

// leaks finds zones from which a probe got through although the rules say that
// it cannot.
func (g *folder) leaks(r *row) *sluicekeep.Contradiction {
	for _, z := range outside() {
		a := r.rules[z]
		if *r.Reachable.Of(z) != sluicekeep.ReachOpen || !shut(a.Reach) {
			continue
		}
		step, by := g.all.decider(a), r.Basis[z]
		return g.say(r, claim{
			kind: DeclaredClosedButReachable, zone: z, rule: stepText(step), writer: step.Writer, proof: "probe",
			remedy: "see the packet's path with `sluicekeep why " + r.Port.String() + "`; close it here with `sluicekeep close " +
				r.Port.String() + "`",
			values: sluicekeep.Fields{"vantage": by.Vantage, "place": stepPlace(step)},
		}, "the rules close %s to %s (%s), but vantage %s got through", r.Port, zoneName(z), stepText(step), by.Vantage)
	}
	return nil
}

// unreachable finds listeners that the rules let a zone use and a probe from
// there could not: something else is in the way. Silence proves nothing of UDP.
func (g *folder) unreachable(r *row) *sluicekeep.Contradiction {
	if !held(r) {
		return nil
	}
	for _, z := range outside() {
		got := *r.Reachable.Of(z)
		silent := got == sluicekeep.ReachFiltered && r.Transport != sluicekeep.UDP
		if *r.Predicted.Of(z) != sluicekeep.ReachOpen || !silent && got != sluicekeep.ReachClosed {
			continue
		}
		by := r.Basis[z]
		return g.say(r, claim{
			kind: DeclaredOpenButUnreachable, zone: z, proof: "probe",
			remedy: "look for another firewall between the host and the vantage",
			values: sluicekeep.Fields{"vantage": by.Vantage, "reach": string(got)},
		}, "%s", fmt.Sprintf("%s listens on %s and the rules of this host let %s in, but vantage %s found it %s: blocked elsewhere",
			listener(r), r.Port, zoneName(z), by.Vantage, got))
	}
	return nil
}
