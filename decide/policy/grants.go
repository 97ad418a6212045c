package policy

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/selector"
)

// grant reads one grant.
func (l *loader) grant(n *yaml.Node) {
	g := Grant{At: l.place(n)}
	l.object(n, "a grant",
		field{"id", true, func(n *yaml.Node) { g.ID = l.name(n, "id") }},
		field{"on", true, l.text("on", &g.On)},
		field{"service", true, func(n *yaml.Node) { g.Service, g.Ports = l.serviceOrPort(n) }},
		field{"from", true, l.sources(&g.From)},
		field{"because", true, l.text("because", &g.Because)},
		field{"owner", true, l.text("owner", &g.Owner)},
		field{"held_by", false, func(n *yaml.Node) { g.HeldBy = l.identity(n) }},
		field{"dependence", false, l.number("dependence", 0, 10, func(v int) { g.Dependence = &v })},
		field{"until", false, l.instant("until", false, &g.Until)},
		field{"review_by", false, l.instant("review_by", true, &g.ReviewBy)},
		field{"on_end", false, func(n *yaml.Node) { g.OnEnd = l.onEnd(n) }},
	)
	if n.Kind != yaml.MappingNode {
		return
	}
	if g.OnEnd != "" && g.Until.IsZero() {
		l.wrong(n, "add until, or drop on_end", "grant %s has on_end but no end", quoted(g.ID))
	}
	l.Grants = append(l.Grants, g)
}

// name reads an identifier.
func (l *loader) name(n *yaml.Node, what string) string {
	s, ok := l.scalar(n, what)
	if ok && !validName(s) {
		l.wrong(n, "use letters, digits, - _ and .", "%s is not a name: %s", what, quoted(s))
		return ""
	}
	return s
}

// serviceOrPort reads the name of a service, or a port itself.
func (l *loader) serviceOrPort(n *yaml.Node) (string, []sluicekeep.Port) {
	s, ok := l.scalar(n, "service")
	switch {
	case !ok:
		return "", nil
	case strings.Contains(s, "/") || s != "" && strings.Trim(s, "0123456789-") == "":
		return "", l.ports(n)
	case !validName(s):
		l.wrong(n, "name a service, or write a port like 443/tcp", "%s is not a service", quoted(s))
	}
	return s, nil
}

// sources reads who may come: zones by name and prefixes.
func (l *loader) sources(to *[]Source) func(*yaml.Node) {
	return func(n *yaml.Node) {
		l.oneOrMany(n, "from", func(n *yaml.Node) {
			s, ok := l.scalar(n, "from")
			switch {
			case !ok:
			case strings.ContainsAny(s, "/:") || strings.Trim(s, "0123456789.") == "":
				if p, ok := l.prefix(n, s); ok {
					*to = append(*to, Source{Prefix: p})
				}
			case !validName(s):
				l.wrong(n, "name a zone, or write a prefix like 10.0.0.0/8", "%s is not a source", quoted(s))
			default:
				*to = append(*to, Source{Zone: s})
			}
		})
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			l.wrong(n, "write from: internet to let everyone in", "from is empty")
		}
	}
}

// identity reads who alone may hold the port.
func (l *loader) identity(n *yaml.Node) *sluicekeep.Identity {
	var id sluicekeep.Identity
	l.object(n, "held_by",
		field{"unit", false, l.text("unit", &id.Unit)},
		field{"image", false, l.text("image", &id.Image)},
		field{"exe", false, l.text("exe", &id.Exe)},
		field{"package", false, l.text("package", &id.Package)},
	)
	if id == (sluicekeep.Identity{}) && n.Kind == yaml.MappingNode {
		l.wrong(n, "name a unit, image, exe or package", "held_by names nobody")
	}
	return &id
}

// onEnd reads "cut" or "drain DURATION".
func (l *loader) onEnd(n *yaml.Node) string {
	s, ok := l.scalar(n, "on_end")
	if !ok || s == "cut" {
		return s
	}
	rest, drain := strings.CutPrefix(s, "drain ")
	if d, err := sluicekeep.ParseDuration(rest); !drain || err != nil || d <= 0 || d > 24*time.Hour {
		l.wrong(n, "write cut, or drain 5m (at most 24h)", "on_end cannot be %s", quoted(s))
		return ""
	}
	return s
}

// guard reads one guard.
func (l *loader) guard(n *yaml.Node) {
	g := Guard{At: l.place(n)}
	l.object(n, "a guard",
		field{"service", true, func(n *yaml.Node) { g.Service, g.Ports = l.serviceOrPort(n) }},
		field{"from", true, l.sources(&g.From)},
	)
	l.Guards = append(l.Guards, g)
}

// rule reads one rule of approval.
func (l *loader) rule(n *yaml.Node) {
	r := Rule{At: l.place(n)}
	l.object(n, "an approval rule",
		field{"when", true, func(n *yaml.Node) {
			if s := l.selector(n, RuleWords()); s != nil {
				r.When = *s
			}
		}},
		field{"needs", true, func(n *yaml.Node) {
			l.list(n, "needs", func(n *yaml.Node) { r.Needs = append(r.Needs, l.need(n)) })
		}},
	)
	l.Approval = append(l.Approval, r)
}

// need reads a role and how many of it.
func (l *loader) need(n *yaml.Node) Need {
	need := Need{Count: 1}
	roles := []string{"owner", "operator", "approver", "committee"}
	l.object(n, "a need",
		field{"role", true, l.choice("role", roles, func(s string) { need.Role = s })},
		field{"count", false, l.number("count", 1, 20, func(v int) { need.Count = v })},
	)
	return need
}

// labels reads a selector of machines.
func (l *loader) labels(n *yaml.Node) *selector.Selector { return l.selector(n, selector.Vocabulary{}) }

// selector reads a selector; an error points into the line.
func (l *loader) selector(n *yaml.Node, words selector.Vocabulary) *selector.Selector {
	text, ok := l.scalar(n, "a selector")
	if !ok {
		return nil
	}
	s, err := words.Parse(text)
	if err == nil {
		return &s
	}
	at, wrong := *n, selector.Fault(err)
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		at.Column += wrong.Column - 1
		if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			at.Column++ // the quote itself
		}
	}
	l.wrong(&at, wrong.Hint, "%s", wrong.What)
	return nil
}

// refer resolves names: duplicates, and references to nothing.
func (l *loader) refer() {
	l.unique("zone", len(l.Zones), func(i int) (string, Place) { return l.Zones[i].Name, l.Zones[i].At })
	l.unique("asset", len(l.Assets), func(i int) (string, Place) { return l.Assets[i].Name, l.Assets[i].At })
	l.unique("service", len(l.Services), func(i int) (string, Place) { return l.Services[i].Name, l.Services[i].At })
	l.unique("grant", len(l.Grants), func(i int) (string, Place) { return l.Grants[i].ID, l.Grants[i].At })
	l.overlaps()
	for i := range l.Grants {
		g := &l.Grants[i]
		l.resolve(g.At, "grant "+g.ID, g.Service, &g.Ports)
		l.known(g.At, "grant "+g.ID, g.From)
		l.machines(g)
		dynamic := slices.ContainsFunc(g.Ports, func(p sluicekeep.Port) bool { return p.Number == 0 })
		if dynamic && g.HeldBy == nil {
			l.note(g.At, "add held_by", "grant %s is for a dynamic port of nobody", g.ID)
		}
	}
	for i := range l.Guards {
		g := &l.Guards[i]
		l.resolve(g.At, "a guard", g.Service, &g.Ports)
		l.known(g.At, "a guard", g.From)
	}
}
