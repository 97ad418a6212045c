package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluicekeep/sluicekeep"
)

// diffRules compares what is no grant: assets, modes, guards, approval.
func diffRules(old, now *Policy) []Delta {
	if old == nil {
		old = &Policy{}
	}
	if now == nil {
		now = &Policy{}
	}
	out := diffAssets(old, now)
	out = append(out, diffLines("guard", guardLines(old), guardLines(now))...)
	out = append(out, diffLines("approval", ruleLines(old), ruleLines(now))...)
	if old.Weights != now.Weights {
		out = append(out, Delta{Kind: "weights", Text: "the weights of risk change"})
	}
	return out
}

// diffAssets compares assets by name. A mode that is lowered lets more
// through, and so may an asset that matches other machines.
func diffAssets(old, now *Policy) []Delta {
	was, is := assetsByName(old), assetsByName(now)
	names := maps.Clone(was)
	maps.Copy(names, is)
	var out []Delta
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, b := was[name], is[name]
		if m, n := a.mode(), b.mode(); m != n {
			out = append(out, Delta{
				Kind: "mode", On: name, Opens: n.firmness() < m.firmness(),
				Text: fmt.Sprintf("%s goes from %s to %s", name, m, n),
			})
		}
		if a.Name != "" && b.Name != "" && a.matchText() != b.matchText() {
			out = append(out, Delta{
				Kind: "asset", On: name, Opens: true,
				Text: fmt.Sprintf("%s now means the machines with %s, not those with %s", name, b.matchText(), a.matchText()),
			})
		}
	}
	return out
}

func assetsByName(p *Policy) map[string]Asset {
	out := map[string]Asset{}
	for _, a := range p.Assets {
		out[a.Name] = a
	}
	return out
}

func (a Asset) mode() Mode {
	if a.Mode == "" {
		return Watch
	}
	return a.Mode
}

func (a Asset) matchText() string {
	if a.Match == nil {
		return "the name " + a.Name
	}
	return a.Match.String()
}

// guardLines writes each guarded port and source as a sentence's subject.
func guardLines(p *Policy) []string {
	var out []string
	for _, g := range p.Guards {
		for _, port := range g.Ports {
			for _, s := range g.From {
				from := s.Zone
				if from == "" {
					from = s.Prefix.String()
				}
				out = append(out, "the guard of "+portText(port)+" from "+from)
			}
		}
	}
	return out
}

// ruleLines writes each approval rule.
func ruleLines(p *Policy) []string {
	var out []string
	for _, r := range p.Approval {
		needs := make([]string, len(r.Needs))
		for i, n := range r.Needs {
			needs[i] = fmt.Sprintf("%d × %s", n.Count, n.Role)
		}
		out = append(out, fmt.Sprintf("the approval rule %q (%s)", r.When.String(), strings.Join(needs, ", ")))
	}
	return out
}

// diffLines tells what comes and goes. Fewer rules let more through, and a new
// approval rule may be milder than the default that it stands in for.
func diffLines(kind string, was, is []string) []Delta {
	var out []Delta
	for _, l := range was {
		if !slices.Contains(is, l) {
			out = append(out, Delta{Kind: kind, Opens: kind == "approval", Text: l + " goes"})
		}
	}
	for _, l := range is {
		if !slices.Contains(was, l) {
			out = append(out, Delta{Kind: kind, Opens: kind == "approval", Text: l + " is new"})
		}
	}
	return out
}

// Opens reports whether any difference lets more through.
func Opens(ds []Delta) bool { return slices.ContainsFunc(ds, func(d Delta) bool { return d.Opens }) }

// NeedsCommittee reports whether any difference edits who decides: approval
// rules and guards (change.md).
func NeedsCommittee(ds []Delta) bool {
	return slices.ContainsFunc(ds, func(d Delta) bool { return d.Kind == "approval" || d.Kind == "guard" })
}

// Affects returns the ports that differences in sources are about.
func Affects(ds []Delta) []sluicekeep.Port {
	var out []sluicekeep.Port
	for _, d := range ds {
		if d.Kind == "sources" && !slices.Contains(out, d.Port) {
			out = append(out, d.Port)
		}
	}
	return out
}
