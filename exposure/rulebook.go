package exposure

import (
	"slices"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// ours is the writer of our own table.
const ours = "sluicekeep"

// rulebook asks the rules: all of them, and parts of them, for comparison.
type rulebook struct {
	host      firewall.Host
	zones     map[sluicekeep.Zone]firewall.Zone
	all       *judge
	parts     map[string]*judge
	published []firewall.Publication
	openings  []firewall.Opening
	stores    []firewall.Store // that hold tables of others, in order
}

// judge is an evaluator with its zones.
type judge struct {
	*firewall.Evaluator
	zones   map[sluicekeep.Zone]firewall.Zone
	sources map[sourceKey]*firewall.Source
	named   []firewall.Opening // once asked for
	asked   bool
}

// sourceKey is a zone through one interface, or through any.
type sourceKey struct {
	zone  sluicekeep.Zone
	iface string
}

func newRulebook(h firewall.Host, zones map[sluicekeep.Zone]firewall.Zone) *rulebook {
	b := &rulebook{host: h, zones: zones, parts: map[string]*judge{}}
	b.all = newJudge(h, zones)
	b.published = b.all.Published()
	b.openings = b.all.ExplicitOpens()
	if h.Rules == nil {
		return b
	}
	for _, t := range h.Rules.Tables {
		if t.Writer != ours && !slices.Contains(b.stores, t.Store) {
			b.stores = append(b.stores, t.Store)
		}
	}
	slices.Sort(b.stores)
	return b
}

func newJudge(h firewall.Host, zones map[sluicekeep.Zone]firewall.Zone) *judge {
	return &judge{Evaluator: firewall.NewEvaluator(h), zones: zones, sources: map[sourceKey]*firewall.Source{}}
}

// from returns a prepared source, nil for a zone that nobody described.
func (j *judge) from(z sluicekeep.Zone, iface string) *firewall.Source {
	k := sourceKey{z, iface}
	if s, ok := j.sources[k]; ok {
		return s
	}
	zone, ok := j.zones[z]
	if !ok {
		return nil
	}
	if iface != "" && !zone.Self {
		zone.Iif = []string{iface}
	}
	s := j.From(zone)
	j.sources[k] = s
	return s
}

// ask predicts for a row and a zone. The zero Answer is unknown.
func (j *judge) ask(r *row, z sluicekeep.Zone) firewall.Answer {
	src := j.from(z, r.iface)
	if src == nil {
		return firewall.Answer{}
	}
	return j.Predict(firewall.Query{Dst: r.Address, Port: r.Port}, src)
}

// openings lists the ports that rules accept by name.
func (j *judge) openings() []firewall.Opening {
	if !j.asked {
		j.named, j.asked = j.ExplicitOpens(), true
	}
	return j.named
}

// part returns a judge of the tables that keep picks; ours are never among
// them. The name is for remembering it.
func (b *rulebook) part(name string, keep func(*firewall.Table) bool) *judge {
	if j, ok := b.parts[name]; ok {
		return j
	}
	rules := &firewall.Ruleset{Unreadable: b.host.Rules.Unreadable}
	for i := range b.host.Rules.Tables {
		if t := &b.host.Rules.Tables[i]; t.Writer != ours && keep(t) {
			rules.Tables = append(rules.Tables, *t)
		}
	}
	h := b.host
	h.Rules = rules
	j := newJudge(h, b.zones)
	b.parts[name] = j
	return j
}

// store returns a judge of one store.
func (b *rulebook) store(s firewall.Store) *judge {
	return b.part(string(s), func(t *firewall.Table) bool { return t.Store == s })
}

// visible returns a judge of what `nft list ruleset` shows.
func (b *rulebook) visible() *judge {
	return b.part("visible", func(t *firewall.Table) bool { return t.Store != firewall.StoreIPTablesLegacy })
}

// opens finds the rule of a store that accepts a port by name.
func (b *rulebook) opens(s firewall.Store, r *row) *firewall.Opening {
	openings := b.store(s).openings()
	i := slices.IndexFunc(openings, func(o firewall.Opening) bool {
		return o.Family == r.Family && o.Proto == r.Transport.Number() && o.From <= r.Number && r.Number <= o.To
	})
	if i < 0 {
		return nil
	}
	return &openings[i]
}
