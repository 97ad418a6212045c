package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// reviewIn is when drafted grants are due for review.
const reviewIn = 30 * 24 * time.Hour

// Init drafts a policy file from what is seen: one grant for each held port
// that others can reach, for the narrowest sources that the known clients
// allow. The text is for a person to read, correct and accept; it grants
// nothing by itself.
func Init(rows []sluicekeep.Profile, clients []sluicekeep.Client, now time.Time) []byte {
	var b bytes.Buffer
	ports := draftPorts(rows)
	asset := "this-host"
	if len(rows) > 0 {
		asset = nameOf(rows[0].Asset)
	}
	fmt.Fprintf(&b, `# Drafted by `+"`sluicekeep policy init`"+` on %s from what was seen on %s.
# Read every grant: it says what may be open, and what no grant covers should be
# closed. Delete what should not be; narrow what is too wide; then apply it with
# `+"`sluicekeep policy apply`"+`. Ports bound to loopback need no grant.
version: 1

assets:
  %s: {mode: watch}   # watch only looks | shadow counts who would be cut | enforce drops

`, now.UTC().Format(time.DateOnly), asset, asset)
	if len(ports) == 0 {
		b.WriteString("grants: []   # no port is held that others can reach\n")
		return b.Bytes()
	}
	b.WriteString("grants:\n")
	ids := map[string]bool{}
	for _, d := range ports {
		d.write(&b, asset, grantID(d, ids), clients, now)
	}
	return b.Bytes()
}

// draft is one port with what holds it.
type draft struct {
	sluicekeep.Port
	row   sluicekeep.Profile // the widest row of the port
	known bool               // somebody watched who uses it
}

// draftPorts picks the held ports that are not bound to loopback only.
func draftPorts(rows []sluicekeep.Profile) []draft {
	byPort := map[sluicekeep.Port]draft{}
	for _, r := range rows {
		if r.Held == nil || !*r.Held || r.Address.Unmap().IsLoopback() || r.Closed != "" {
			continue
		}
		d, ok := byPort[r.Port]
		if !ok || !d.row.Address.IsUnspecified() && r.Address.IsUnspecified() {
			d.row = r
		}
		d.Port, d.known = r.Port, d.known || r.KnownClients != nil
		byPort[r.Port] = d
	}
	out := make([]draft, 0, len(byPort))
	for _, d := range byPort {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b draft) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Transport, b.Transport))
	})
	return out
}

// nameOf makes a valid name of a text.
func nameOf(s string) string {
	s = strings.Trim(regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(s, "-"), "-.")
	if s == "" {
		return "unnamed"
	}
	return s[:min(len(s), 48)]
}

// grantID names a grant after who holds the port.
func grantID(d draft, taken map[string]bool) string {
	id := "port"
	if p := d.row.Process; p != nil {
		exe := p.Exe[strings.LastIndex(p.Exe, "/")+1:]
		id = nameOf(cmp.Or(strings.TrimSuffix(p.Unit, ".service"), p.Container, exe, id))
	}
	id = nameOf(fmt.Sprintf("%s-%d-%s", id, d.Number, d.Transport))
	for n := 2; taken[id]; n++ {
		id = fmt.Sprintf("%s-%d", strings.TrimSuffix(id, "-"+strconv.Itoa(n-1)), n)
	}
	taken[id] = true
	return id
}

// write writes the grant with what a person should know to judge it.
func (d draft) write(b *bytes.Buffer, asset, id string, clients []sluicekeep.Client, now time.Time) {
	from, why := narrowest(d, clients)
	fmt.Fprintf(b, "\n  # %s%s\n", d.Port, held(d.row.Process))
	fmt.Fprintf(b, "  # %s\n", why)
	if d.row.Predicted.Internet == sluicekeep.ReachOpen || d.row.Reachable.Internet == sluicekeep.ReachOpen {
		b.WriteString("  # now open from the internet\n")
	}
	fmt.Fprintf(b, "  - id: %s\n    on: %s\n    service: %s\n", id, asset, d.Port)
	if p := d.row.Process; p != nil && p.Unit != "" && quoteYAML(p.Unit) != `""` {
		fmt.Fprintf(b, "    held_by: {unit: %s}\n", quoteYAML(p.Unit))
	}
	fmt.Fprintf(b, "    from: %s\n", from)
	fmt.Fprintf(b, "    because: seen in use; say why it is needed\n    owner: %s\n", quoteYAML(cmp.Or(d.row.Owner, "unknown")))
	fmt.Fprintf(b, "    review_by: %s\n", now.UTC().Add(reviewIn).Format(time.DateOnly))
}

// held names the holder in a comment.
func held(p *sluicekeep.Process) string {
	if p == nil {
		return ""
	}
	name := strings.TrimSpace(strings.Join([]string{nameOf(p.Exe), p.Unit}, " "))
	return ", held by " + strings.Trim(quoteYAML(name), `"`)
}

// quoteYAML writes text as a YAML double-quoted string without what a file
// must not hold: control and direction characters.
func quoteYAML(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200])
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// mostSources is how many single sources a drafted grant lists before it
// falls back to their networks.
const mostSources = 12

// narrowest returns the sources as YAML, and why it is these.
func narrowest(d draft, clients []sluicekeep.Client) (from, why string) {
	var hosts []netip.Prefix
	internet := false
	for _, c := range clients {
		a := c.Source.Unmap().WithZone("")
		if c.Port != d.Port || !a.IsValid() || a.IsLoopback() {
			continue
		}
		internet = internet || c.Zone == sluicekeep.ZoneInternet
		hosts = append(hosts, netip.PrefixFrom(a, a.BitLen()))
	}
	hosts = sortedPrefixes(hosts)
	switch {
	case len(hosts) == 0 && d.known:
		return "segment", "nobody was seen to use it: most likely this grant can go"
	case len(hosts) == 0:
		return "segment", "nobody watched who uses it: the segment is a guess"
	case internet && len(hosts) > mostSources:
		return "internet", fmt.Sprintf("%d known clients, some from the internet", len(hosts))
	case len(hosts) > mostSources:
		nets := networks(hosts)
		return listYAML(nets), fmt.Sprintf("%d known clients; their networks are listed", len(hosts))
	}
	return listYAML(hosts), count(len(hosts), "known client")
}

// networks widens hosts to their /24 and /64 networks.
func networks(hosts []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(hosts))
	for i, h := range hosts {
		bits := 64
		if h.Addr().Is4() {
			bits = 24
		}
		out[i] = netip.PrefixFrom(h.Addr(), bits).Masked()
	}
	return sortedPrefixes(out)
}

func sortedPrefixes(ps []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ps, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(ps)
}

func listYAML(ps []netip.Prefix) string {
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = `"` + p.String() + `"`
	}
	return "[" + strings.Join(names, ", ") + "]"
}
