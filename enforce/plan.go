package enforce

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// What a step does.
const (
	DoClose = "close"
	DoKeep  = "keep"  // the user said so
	DoGuard = "guard" // a guard said so
	DoOpen  = "open"
)

// Facts is what a plan is made from.
type Facts struct {
	Asset    string
	Now      time.Time
	Ports    []sluicekeep.Port    // the target, resolved
	Profiles []sluicekeep.Profile // rows of those ports
	Clients  []sluicekeep.Client  // known clients of those ports
	Watched  *time.Duration       // how long somebody watched; nil: nobody
	Live     map[sluicekeep.Port][]netip.Addr
	Guards   []sluicekeep.Guard
	Closed   []sluicekeep.Port // ports that a change of ours closes now
}

// NewPlan makes the plan for req, or says why there can be none. The verdict
// is left to the decide step.
func NewPlan(req sluicekeep.Request, f Facts) (sluicekeep.Plan, error) {
	p := sluicekeep.Plan{
		Kind: req.Kind, Asset: f.Asset, Target: req.Target, Reason: req.Reason,
		Ports: f.Ports, Guards: f.Guards, OnLive: req.OnLive, Drain: req.Drain,
		Restore: []sluicekeep.Element{}, Reasons: []string{},
	}
	var err error
	switch req.Kind {
	case sluicekeep.Close:
		err = planClose(&p, req, f)
	case sluicekeep.Open:
		err = planOpen(&p, req, f)
	default:
		err = sluicekeep.Errorf(sluicekeep.Invalid, "use close or open", "%q is no kind of change", req.Kind)
	}
	if err != nil {
		return p, err
	}
	p.Hash = Hash(p)
	return p, nil
}

func planClose(p *sluicekeep.Plan, req sluicekeep.Request, f Facts) error {
	p.Grace = req.Grace
	if p.Grace == 0 {
		p.Grace = sluicekeep.Duration(DefaultGrace)
	}
	if time.Duration(p.Grace) > MaxGrace {
		return sluicekeep.Errorf(sluicekeep.Invalid, "choose at most 7d", "a grace of %s is too long", p.Grace)
	}
	if req.OnLive == sluicekeep.LiveDrain && req.Drain == 0 {
		return sluicekeep.Errorf(sluicekeep.Invalid, "write --on-live 'drain 5m'", "drain needs a duration")
	}
	p.AutoConfirm, p.Now, p.Never = req.AutoConfirm, req.Now, req.Never
	closeSteps(p, req, f)
	p.OnKnock = onKnock(req, f)
	if p.OnKnock == "restore" {
		p.Restore = restorable(p, f)
	}
	p.Impact = impact(p, f)
	return CheckGuards(*p, f.Guards)
}

// closeSteps keeps before it closes, as the kernel does.
func closeSteps(p *sluicekeep.Plan, req sluicekeep.Request, f Facts) {
	for _, port := range f.Ports {
		for _, g := range touching(f.Guards, []sluicekeep.Port{port}) {
			for _, s := range g.Sources {
				p.Steps = append(p.Steps, step(DoGuard, port, s, fmt.Sprintf("%s keeps %s: guard %s", s, port, g.Name)))
			}
		}
		for _, k := range req.Keep {
			p.Steps = append(p.Steps, step(DoKeep, port, k.Masked(), fmt.Sprintf("%s keeps %s", k.Masked(), port)))
		}
		p.Steps = append(p.Steps, step(DoClose, port, netip.Prefix{},
			fmt.Sprintf("everyone else loses %s on %s, IPv4 and IPv6", port, f.Asset)))
	}
}

func step(do string, port sluicekeep.Port, src netip.Prefix, text string) sluicekeep.Step {
	return sluicekeep.Step{Do: do, Element: sluicekeep.Element{Port: port, Source: src}, Text: text}
}

// unauthenticated names services that commonly answer without any password;
// a knock on them from the outside must not re-open them (change.md).
func unauthenticated(n uint16) bool {
	switch n {
	case 2375, 2379, 5900, 5984, 6379, 9200, 9300, 10255, 11211, 27017, 873:
		return true
	}
	return false
}

func onKnock(req sluicekeep.Request, f Facts) string {
	if req.OnKnock != "" {
		return req.OnKnock
	}
	for _, r := range f.Profiles {
		outside := r.Reachable.Internet == sluicekeep.ReachOpen || r.Predicted.Internet == sluicekeep.ReachOpen
		if outside && unauthenticated(r.Number) {
			return "tell"
		}
	}
	return "restore"
}

// restorable are the known clients that a knock lets back in: TCP, outside the
// internet zone, with payload both ways in two distinct hours, not excluded.
func restorable(p *sluicekeep.Plan, f Facts) []sluicekeep.Element {
	out := []sluicekeep.Element{}
	for _, c := range f.Clients {
		src := host(c.Source)
		ok := c.Transport == sluicekeep.TCP && c.Zone != sluicekeep.ZoneInternet && c.PayloadHours >= 2
		if ok && slices.Contains(f.Ports, c.Port) && !covers(p.Never, src) && !covers(keptSources(*p, c.Port), src) {
			out = append(out, sluicekeep.Element{Port: c.Port, Source: src})
		}
	}
	return out
}

func planOpen(p *sluicekeep.Plan, req sluicekeep.Request, f Facts) error {
	d := time.Duration(req.For)
	switch {
	case len(req.From) == 0:
		return sluicekeep.Errorf(sluicekeep.Invalid, "add --from CIDR", "an opening needs a source")
	case d <= 0:
		return sluicekeep.Errorf(sluicekeep.Invalid, "add --for 2h", "an opening needs an end")
	case d > MaxOpen:
		return sluicekeep.Errorf(sluicekeep.Invalid, "choose at most 30d, or write a standing grant", "an opening of %s is too long", req.For)
	case req.Reason == "":
		return sluicekeep.Errorf(sluicekeep.Invalid, "add --reason", "an opening needs a reason")
	}
	p.Ports = p.Ports[:0:0]
	for _, port := range f.Ports {
		if slices.Contains(f.Closed, port) {
			p.Ports = append(p.Ports, port)
		}
	}
	if len(p.Ports) == 0 {
		return notOurs(req, f)
	}
	p.Grace, p.Until = req.For, f.Now.Add(d).UTC().Truncate(time.Millisecond)
	for _, port := range p.Ports {
		for _, from := range req.From {
			p.Steps = append(p.Steps, step(DoOpen, port, from.Masked(),
				fmt.Sprintf("%s may reach %s on %s until %s", from.Masked(), port, f.Asset, p.Until.Format(time.RFC3339))))
		}
	}
	p.Impact = impact(p, f)
	return nil
}

// notOurs explains why a port that we do not close cannot be opened.
func notOurs(req sluicekeep.Request, f Facts) error {
	for _, r := range f.Profiles {
		if r.Declared == sluicekeep.DeclaredClosed {
			rule := "a rule we did not write"
			if len(r.Contradictions) > 0 && r.Contradictions[0].Rule != "" {
				rule = r.Contradictions[0].Rule
			}
			return sluicekeep.Errorf(sluicekeep.Refused, "change that rule where it is kept; ours cannot override it",
				"%s is blocked elsewhere: %s", req.Target, rule)
		}
	}
	return sluicekeep.Errorf(sluicekeep.Refused, "see `sluicekeep why "+req.Target+"`",
		"%s is already open: no change of ours closes it", req.Target)
}

func impact(p *sluicekeep.Plan, f Facts) sluicekeep.Impact {
	im := sluicekeep.Impact{WouldRestore: []sluicekeep.Client{}}
	for _, port := range p.Ports {
		im.LiveConnections += len(f.Live[port])
	}
	if f.Watched == nil {
		im.Confidence = "nobody watched this port: who uses it is not known"
		return im
	}
	im.WatchedForS = int64(f.Watched.Seconds())
	n := len(f.Clients)
	im.KnownClients, im.Clients = &n, f.Clients
	for _, c := range f.Clients {
		if slices.Contains(p.Restore, sluicekeep.Element{Port: c.Port, Source: host(c.Source)}) {
			im.WouldRestore = append(im.WouldRestore, c)
		}
	}
	im.Confidence = confidence(*f.Watched)
	return im
}

// confidence says which periods a watch of that length cannot exclude.
func confidence(watched time.Duration) string {
	day := 24 * time.Hour
	switch {
	case watched < time.Hour:
		return fmt.Sprintf("watched %s: an hourly job cannot be excluded", watched.Round(time.Second))
	case watched < 2*day:
		return fmt.Sprintf("watched %.0f hours: a daily job cannot be excluded", watched.Hours())
	case watched < 14*day:
		return fmt.Sprintf("watched %.0f days: a weekly or monthly job cannot be excluded", watched.Hours()/24)
	case watched < 62*day:
		return fmt.Sprintf("watched %.0f days: a monthly job cannot be excluded", watched.Hours()/24)
	}
	return fmt.Sprintf("watched %.0f days: a yearly job cannot be excluded", watched.Hours()/24)
}
