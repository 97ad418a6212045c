package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/sluicekeep/sluicekeep"
)

// Lint returns what is doubtful in a policy that loads: grants that ended or
// were never reviewed, that other grants make needless, that let everyone into
// services without a password, and names that nothing uses.
func (p *Policy) Lint(now time.Time) Problems {
	if p == nil {
		return nil
	}
	var out Problems
	for i := range p.Grants {
		out = append(out, p.lintGrant(i, now)...)
	}
	return append(out, p.unused()...).sorted()
}

// lintGrant looks at one grant.
func (p *Policy) lintGrant(i int, now time.Time) Problems {
	g := &p.Grants[i]
	var out Problems
	say := func(hint, format string, args ...any) {
		out = append(out, Problem{g.At, "grant " + g.ID + " " + fmt.Sprintf(format, args...), hint})
	}
	switch {
	case !g.Until.IsZero() && !now.Before(g.Until):
		say("remove it", "ended at %s", g.Until.Format(time.RFC3339))
	case g.Until.IsZero() && g.ReviewBy.IsZero():
		say("add review_by, or until", "stands without ever being reviewed")
	case !g.ReviewBy.IsZero() && !now.Before(g.ReviewBy):
		say("review it and set a new date", "was due for review by %s", g.ReviewBy.Add(-time.Second).Format(time.DateOnly))
	}
	if j := p.covered(i); j >= 0 {
		say("remove it, or narrow the other", "lets in nobody whom grant %s does not", p.Grants[j].ID)
	}
	if everyoneIn(g.From) {
		for _, port := range g.Ports {
			if what := passwordless(port); what != "" {
				say("name the sources that need it", "opens %s (%s, often without a password) to the internet", port, what)
			}
		}
	}
	return out
}

func everyoneIn(from []Source) bool {
	return slices.ContainsFunc(from, func(s Source) bool {
		return s.Zone == string(sluicekeep.ZoneInternet) || s.Zone == "" && s.Prefix.Bits() == 0
	})
}

// passwordless names services that commonly answer anybody.
func passwordless(p sluicekeep.Port) string {
	if p.Transport != sluicekeep.TCP {
		return map[uint16]string{11211: "memcached", 69: "TFTP", 161: "SNMP"}[p.Number]
	}
	return map[uint16]string{
		873: "rsync", 2375: "Docker", 2379: "etcd", 5900: "VNC", 5984: "CouchDB", 6379: "Redis", 9200: "Elasticsearch",
		9300: "Elasticsearch", 10255: "kubelet", 11211: "memcached", 27017: "MongoDB",
	}[p.Number]
}

// covered returns another grant that grants everything grant i does, or -1. Of
// two equal ones the first covers the second.
func (p *Policy) covered(i int) int {
	g := &p.Grants[i]
	mine := p.sources(g.From)
	return slices.IndexFunc(p.Grants, func(o Grant) bool {
		if o.ID == g.ID || o.On != g.On || o.HeldBy != nil && (g.HeldBy == nil || *o.HeldBy != *g.HeldBy) {
			return false
		}
		longer := o.Until.IsZero() || !g.Until.IsZero() && !o.Until.Before(g.Until)
		theirs := p.sources(o.From)
		if !longer || !within(g.Ports, o.Ports) || len(minus(mine, theirs).Prefixes()) > 0 {
			return false
		}
		same := len(minus(theirs, mine).Prefixes()) == 0 && within(o.Ports, g.Ports) && o.Until.Equal(g.Until)
		return !same || comparePlace(o.At, g.At) < 0
	})
}

func within(some, all []sluicekeep.Port) bool {
	return !slices.ContainsFunc(some, func(p sluicekeep.Port) bool { return !slices.Contains(all, p) })
}

// sources resolves sources without a machine.
func (p *Policy) sources(from []Source) *netipx.IPSet {
	return sourceSet(p.For(Machine{}).prefixes(from))
}

// unused finds names that nothing refers to.
func (p *Policy) unused() Problems {
	used := map[string]bool{}
	note := func(service string, from []Source) {
		used["service "+service] = true
		for _, s := range from {
			used["zone "+s.Zone] = true
		}
	}
	for _, g := range p.Grants {
		note(g.Service, g.From)
	}
	for _, g := range p.Guards {
		note(g.Service, g.From)
	}
	var out Problems
	for _, s := range p.Services {
		if !used["service "+s.Name] {
			out = append(out, Problem{s.At, "no grant or guard is for the service " + s.Name, "remove it"})
		}
	}
	for _, z := range p.Zones {
		if !used["zone "+z.Name] && len(z.In) == 0 {
			out = append(out, Problem{z.At, "the zone " + z.Name + " has no prefixes", "add some"})
		}
	}
	for _, a := range p.Assets {
		if a.Owner == "" && strings.EqualFold(a.Env, "prod") {
			out = append(out, Problem{a.At, "the asset " + a.Name + " is in production and has no owner", "add owner"})
		}
	}
	return out
}
