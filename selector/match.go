package selector

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// matchProfile decides one term of a profile. It never sees !=.
func matchProfile(p *sluicekeep.Profile, now time.Time, t Term) bool {
	switch t.Key {
	case "":
		return matchWord(p, t)
	case "port":
		return matchPort(p, t)
	case "address":
		in, ok := prefix(t.Value)
		return ok && in.Contains(p.Address.Unmap().WithZone(""))
	case "reachable":
		return matchZone(&p.Reachable, t.Value)
	case "predicted":
		return matchZone(&p.Predicted, t.Value)
	case "risk":
		return p.Risk != nil && Compare(t, float64(p.Risk.Score))
	case "clients":
		return p.KnownClients != nil && Compare(t, float64(*p.KnownClients))
	case "seen":
		return matchAge(t, p.LastSeen, now)
	case "new":
		return matchAge(t, p.FirstSeen, now)
	}
	return matchText(t, values(p, t.Key))
}

// values returns the texts of a key; no text at all is what "none" finds.
func values(p *sluicekeep.Profile, key string) []string {
	switch key {
	case "transport":
		return []string{string(p.Transport)}
	case "family":
		return []string{string(p.Family)}
	case "asset":
		return []string{p.Asset}
	case "env":
		return []string{p.Env}
	case "owner":
		return []string{p.Owner}
	case "declared":
		return []string{string(p.Declared)}
	case "held":
		return []string{truth(p.Held)}
	case "authorised":
		return []string{truth(p.Authorised)}
	case "guarded":
		return []string{truth(&p.Guarded)}
	case "closed":
		return []string{p.Closed}
	case "grant":
		if p.Grant != nil {
			return []string{*p.Grant}
		}
	case "contradiction":
		return contradictions(p)
	case "service":
		if p.Service != nil {
			return []string{p.Service.Name, p.Service.Product}
		}
	default:
		return holder(p, key)
	}
	return nil
}

// holder returns what is known of the process.
func holder(p *sluicekeep.Profile, key string) []string {
	if p.Process == nil {
		return nil
	}
	switch key {
	case "process":
		return []string{p.Process.Exe, p.Process.Exe[strings.LastIndex(p.Process.Exe, "/")+1:]}
	case "unit":
		return []string{p.Process.Unit, strings.TrimSuffix(p.Process.Unit, ".service")}
	case "container":
		return []string{p.Process.Container, p.Process.Image}
	case "user":
		return []string{p.Process.User}
	}
	return nil
}

func contradictions(p *sluicekeep.Profile) []string {
	out := make([]string, len(p.Contradictions))
	for i, c := range p.Contradictions {
		out[i] = c.Kind
	}
	return out
}

func truth(b *bool) string {
	if b == nil {
		return "unknown"
	}
	return strconv.FormatBool(*b)
}

// matchText compares texts without regard to case: ":" finds inside, "=" is
// the whole. Unquoted, "none" means that there is no text and "any" that there
// is some.
func matchText(t Term, texts []string) bool {
	some := false
	for _, s := range texts {
		if s == "" {
			continue
		}
		some = true
		if t.Op == Has && contains(s, t.Value) || strings.EqualFold(s, t.Value) {
			return true
		}
	}
	switch {
	case t.quoted:
		return false
	case strings.EqualFold(t.Value, "none"):
		return !some
	case strings.EqualFold(t.Value, "any"):
		return some
	}
	return false
}

func contains(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

// matchPort compares the port; of 443/tcp also the transport.
func matchPort(p *sluicekeep.Profile, t Term) bool {
	_, _, tr, ok := portSpan(t.Value)
	t.Value, _, _ = strings.Cut(t.Value, "/")
	return ok && (tr == "" || tr == p.Transport) && Compare(t, float64(p.Number))
}

// matchZone reports whether a zone gets through.
func matchZone(r *sluicekeep.Reaches, zone string) bool {
	some := false
	for _, z := range sluicekeep.Zones() {
		open := *r.Of(z) == sluicekeep.ReachOpen
		if open && strings.EqualFold(zone, string(z)) {
			return true
		}
		some = some || open
	}
	return some && strings.EqualFold(zone, "any") || !some && strings.EqualFold(zone, "none")
}

// matchAge compares how long ago something was; what never was has no age.
// "seen:7d" means within seven days.
func matchAge(t Term, at, now time.Time) bool {
	if at.IsZero() {
		return false
	}
	if t.Op == Has {
		t.Op = AtMost
	}
	return CompareSpan(t, now.Sub(at))
}

// matchWord searches a bare word: a number or NUMBER/TRANSPORT is a port, an
// address or prefix is one, other text is looked for everywhere.
func matchWord(p *sluicekeep.Profile, t Term) bool {
	if !t.quoted {
		if _, _, _, ok := portSpan(t.Value); ok {
			return matchPort(p, t)
		}
		if in, ok := prefix(t.Value); ok {
			return in.Contains(p.Address.Unmap().WithZone(""))
		}
	}
	for _, key := range []string{
		"service", "process", "unit", "container", "user", "asset", "env", "owner", "grant", "closed", "contradiction",
	} {
		for _, s := range values(p, key) {
			if contains(s, t.Value) {
				return true
			}
		}
	}
	return p.Address.IsValid() && contains(netip.AddrPortFrom(p.Address, p.Number).String(), t.Value) ||
		contains(p.Port.String(), t.Value)
}

// Compare decides a term of a number: ":" and "=" with a range mean inside it,
// an order compares with the range's near end.
func Compare(t Term, n float64) bool {
	from, to, ok := span(t.Value, 1e9)
	if !ok {
		return false
	}
	switch t.Op {
	case Less:
		return n < float64(from)
	case AtMost:
		return n <= float64(to)
	case Greater:
		return n > float64(to)
	case AtLeast:
		return n >= float64(from)
	case IsNot:
		return n < float64(from) || n > float64(to)
	}
	return n >= float64(from) && n <= float64(to)
}

// CompareSpan decides a term of a duration.
func CompareSpan(t Term, d time.Duration) bool {
	limit, err := sluicekeep.ParseDuration(t.Value)
	if err != nil {
		return false
	}
	switch t.Op {
	case Less:
		return d < limit
	case AtMost:
		return d <= limit
	case Greater:
		return d > limit
	case AtLeast:
		return d >= limit
	case IsNot:
		return d != limit
	}
	return d == limit
}
