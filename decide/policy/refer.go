package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/selector"
)

// note adds a problem at a place.
func (l *loader) note(at Place, hint, format string, args ...any) {
	l.problems = append(l.problems, Problem{at, fmt.Sprintf(format, args...), hint})
}

// unique notes names that two things share, also across files.
func (l *loader) unique(what string, n int, of func(int) (string, Place)) {
	first := map[string]Place{}
	for i := range n {
		name, at := of(i)
		if before, twice := first[name]; twice {
			l.note(at, "rename one of them", "%s %s is defined twice, first at %s", what, name, before)
			continue
		}
		first[name] = at
	}
}

// overlaps notes prefixes that stand in two zones: which one would win?
func (l *loader) overlaps() {
	owner := map[netip.Prefix]string{}
	for _, z := range l.Zones {
		for _, p := range z.In {
			if other, taken := owner[p]; taken && other != z.Name {
				l.note(z.At, "keep it in one of them", "%s is in the zones %s and %s", p, other, z.Name)
			}
			owner[p] = z.Name
		}
	}
}

// resolve finds the ports of a service.
func (l *loader) resolve(at Place, what, service string, ports *[]sluicekeep.Port) {
	if service == "" {
		return
	}
	names := make([]string, len(l.Services))
	for i, s := range l.Services {
		if names[i] = s.Name; s.Name == service {
			*ports = s.Ports
			return
		}
	}
	l.note(at, l.defined(service, names, "services"), "%s is for the service %s, which is not defined", what, service)
}

// known notes zones that nobody defined.
func (l *loader) known(at Place, what string, from []Source) {
	names := zoneNames()
	for _, z := range l.Zones {
		names = append(names, z.Name)
	}
	for _, s := range from {
		if s.Zone != "" && !slices.Contains(names, s.Zone) {
			l.note(at, l.defined(s.Zone, names, "zones"), "%s is from the zone %s, which is not defined", what, s.Zone)
		}
	}
}

// machines understands on: the name of an asset, else a selector of labels.
func (l *loader) machines(g *Grant) {
	names := make([]string, len(l.Assets))
	for i, a := range l.Assets {
		names[i] = a.Name
	}
	if slices.Contains(names, g.On) {
		return
	}
	s, err := selector.Vocabulary{}.Parse(g.On)
	if err != nil {
		l.note(g.At, selector.Fault(err).Hint, "on of grant %s: %s", g.ID, selector.Fault(err).What)
		return
	}
	for _, t := range s.Terms() {
		if t.Key == "" {
			l.note(g.At, l.defined(t.Value, names, "assets"), "grant %s is on the asset %s, which is not defined", g.ID, quoted(t.Value))
			return
		}
	}
	if len(s.Terms()) == 0 {
		l.note(g.At, "name an asset", "grant %s is on nothing", g.ID)
	}
	g.match = &s
}

// defined words the hint for a reference to nothing.
func (l *loader) defined(name string, names []string, section string) string {
	if near := selector.Nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "define it under " + section
}
