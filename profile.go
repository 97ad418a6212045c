package sluicekeep

import (
	"net/netip"
	"time"
)

// Declared is what the rule stores say of new connections from anywhere.
type Declared string

// The declarations. Partial means some sources only; none means that no store
// filters at all; unknown means the rules depend on more than the packet.
const (
	DeclaredUnknown Declared = "unknown"
	DeclaredOpen    Declared = "open"
	DeclaredPartial Declared = "partial"
	DeclaredClosed  Declared = "closed"
	DeclaredNone    Declared = "none"
)

// Reaches is the answer per zone; a zone that is missing is unknown.
type Reaches struct {
	Host         Reach `json:"host" enum:"open,closed,filtered,unknown"`
	Segment      Reach `json:"segment" enum:"open,closed,filtered,unknown"`
	Organisation Reach `json:"organisation" enum:"open,closed,filtered,unknown"`
	Internet     Reach `json:"internet" enum:"open,closed,filtered,unknown"`
}

// Of returns the answer for z.
func (r *Reaches) Of(z Zone) *Reach {
	switch z {
	case ZoneHost:
		return &r.Host
	case ZoneSegment:
		return &r.Segment
	case ZoneOrganisation:
		return &r.Organisation
	}
	return &r.Internet
}

// Basis says how an answer for a zone is known.
type Basis struct {
	By      string    `json:"by" enum:"probe,rules"`
	Vantage string    `json:"vantage,omitempty"`
	At      time.Time `json:"at"`
}

// Service is what answers on an endpoint.
type Service struct {
	Name       string  `json:"name"`
	Product    string  `json:"product"`
	Version    string  `json:"version"`
	CPE        string  `json:"cpe"`
	TLS        bool    `json:"tls"`
	Confidence float64 `json:"confidence"` // 0 to 1
}

// Contradiction is a disagreement between the three truths, with its cause.
type Contradiction struct {
	Kind   string `json:"kind"`   // a stable word, see package exposure
	Cause  string `json:"cause"`  // one sentence
	Rule   string `json:"rule"`   // the text of the deciding rule, empty when no rule decides
	Remedy string `json:"remedy"` // what to do about it
	// Values fill the sentence in another language.
	Values Fields `json:"values,omitempty"`
}

// Risk is a score from 0 to 100 inside its interval. Nil means not assessed.
type Risk struct {
	Score int        `json:"score"`
	Low   int        `json:"low"`
	High  int        `json:"high"`
	Parts []RiskPart `json:"parts"`
}

// RiskPart is one dimension's points and the datum they come from.
type RiskPart struct {
	Dimension string  `json:"dimension"`
	Points    float64 `json:"points"`
	Why       string  `json:"why"`
}

// Profile is the present state of one endpoint: a row of the ports table
// (the PORT shape of the JSON contract).
type Profile struct {
	Asset   string     `json:"asset"`
	Address netip.Addr `json:"address"`
	Family  Family     `json:"family" enum:"ipv4,ipv6"`
	Port
	Declared       Declared        `json:"declared" enum:"open,partial,closed,none,unknown"`
	Held           *bool           `json:"held"` // nil: not looked
	Reachable      Reaches         `json:"reachable"`
	Predicted      Reaches         `json:"predicted"`
	Basis          map[Zone]Basis  `json:"basis"`
	Process        *Process        `json:"process"`
	Service        *Service        `json:"service"`
	Grant          *string         `json:"grant"`
	Authorised     *bool           `json:"authorised"` // nil without a policy: unreviewed
	Owner          string          `json:"owner,omitempty"`
	Env            string          `json:"env,omitempty"`
	Guarded        bool            `json:"guarded,omitempty"` // a guard keeps part of it open
	Closed         string          `json:"closed,omitempty"`  // the change that closes it
	Risk           *Risk           `json:"risk"`
	Contradictions []Contradiction `json:"contradictions"`
	KnownClients   *int            `json:"known_clients"` // nil: nobody watched
	FirstSeen      time.Time       `json:"first_seen"`
	LastSeen       time.Time       `json:"last_seen"`
}

// Endpoint returns the endpoint the profile is about.
func (p Profile) Endpoint() Endpoint { return Endpoint{p.Asset, p.Address, p.Port} }

// Summary counts rows of the ports table.
type Summary struct {
	Ports          int  `json:"ports"`
	Unauthorised   *int `json:"unauthorised"` // nil without a policy
	Unreviewed     int  `json:"unreviewed"`
	Internet       int  `json:"internet"` // reachable, or predicted reachable, from the internet
	Contradictions int  `json:"contradictions"`
}

// Status is the ports table at one moment.
type Status struct {
	AsOf    time.Time `json:"as_of"`
	Ports   []Profile `json:"ports"`
	Summary Summary   `json:"summary"`
	Notes   []string  `json:"notes,omitempty"` // what cannot be seen, and how to let us
}

// PathStep is one station of a packet's way through the host.
type PathStep struct {
	Hook     string `json:"hook"` // prerouting | forward | input | listener …
	Priority int    `json:"priority"`
	Store    string `json:"store"` // nftables | iptables-nft | iptables-legacy | kernel
	Table    string `json:"table"`
	Chain    string `json:"chain"`
	Writer   string `json:"writer,omitempty"` // docker | ufw | firewalld | sluicekeep | hand …
	Rule     string `json:"rule,omitempty"`   // text of the rule that matched
	Verdict  string `json:"verdict"`          // accept | drop | reject | dnat … | policy accept | policy drop | unknown
	Decides  bool   `json:"decides,omitempty"`
}

// Path is the way of a new connection from one zone, in one family.
type Path struct {
	Zone    Zone       `json:"zone"`
	Family  Family     `json:"family"`
	Source  netip.Addr `json:"source"` // the sample source that was followed
	Address netip.Addr `json:"address"`
	Port
	Verdict Reach      `json:"verdict" enum:"open,closed,filtered,unknown"`
	Steps   []PathStep `json:"steps"`
}

// Why explains one port: who listens, the paths, the deciding rules.
type Why struct {
	Port  string    `json:"port"`
	Ports []Profile `json:"ports"`
	Paths []Path    `json:"paths"`
}
