// Package policy is the policy file: what may be open. It only grants; what no
// grant covers should be closed.
//
//	p, err := policy.Load(map[string][]byte{"policy.yaml": text})
//	host := p.For(policy.Machine{Name: "web-01", Interfaces: ifaces})
//	grant, authorised := host.With(approved, now).Authorise(row)
//
// A policy denotes a set of (asset, family, source, transport, port) tuples,
// computed exactly; [Diff] speaks of tuples and people, never of lines.
//
// It does not promise that a grant is reachable: another firewall, or nobody
// listening, may stand before it.
package policy

import (
	"net/netip"
	"time"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/selector"
)

// Mode is how firmly an asset is held to its grants.
type Mode string

// The modes. Watch only looks, shadow counts who would be cut, enforce drops.
// The zero Mode is watch.
const (
	Watch   Mode = "watch"
	Shadow  Mode = "shadow"
	Enforce Mode = "enforce"
)

// Policy is the merged content of one or more files. A nil *Policy is valid:
// there is none, and every port is unreviewed.
type Policy struct {
	Zones    []Zone
	Assets   []Asset
	Services []Service
	Grants   []Grant
	Guards   []Guard
	Approval []Rule
	Weights  Weights
}

// Place is where in the files something stands.
type Place struct {
	File   string
	Line   int
	Column int
}

// Zone names prefixes. More specific prefixes win over wider ones.
type Zone struct {
	Name string
	In   []netip.Prefix
	As   sluicekeep.Zone
	At   Place
}

// Asset is a set of machines: those whose labels match, or, without a match,
// the one of that name.
type Asset struct {
	Name  string
	Match *selector.Selector
	Env   string
	Owner string
	Mode  Mode
	At    Place
}

// Service names ports. Number 0 is a dynamic port: whichever the identity of
// the grant listens on.
type Service struct {
	Name  string
	Ports []sluicekeep.Port
	At    Place
}

// Source is where a grant lets clients come from: a prefix, or a zone by name.
type Source struct {
	Prefix netip.Prefix // valid, or
	Zone   string       // internet: everyone
}

// Grant is a grant as it is written; [Host.Grants] resolves it.
type Grant struct {
	ID         string
	On         string // name of an asset, or a selector of labels
	Service    string
	Ports      []sluicekeep.Port
	From       []Source
	Because    string
	Owner      string
	HeldBy     *sluicekeep.Identity
	Dependence *int
	Until      time.Time
	ReviewBy   time.Time
	OnEnd      string
	At         Place

	match *selector.Selector // On, where it is a selector
}

// Guard is traffic that no plan may cut.
type Guard struct {
	Service string
	Ports   []sluicekeep.Port
	From    []Source
	At      Place
}

// Rule says whose word a change needs. When is a selector over the words of
// [RuleWords].
type Rule struct {
	When  selector.Selector
	Needs []Need
	At    Place
}

// Need is a number of people of one role.
type Need struct {
	Role  string
	Count int
}

// Weights are the shares of the dimensions of risk; they sum to 100.
type Weights struct {
	Dependence, Exposure, Vulnerability, Utilisation, Compliance int
}

// Machine is a host as the policy knows it.
type Machine struct {
	Name       string
	Labels     map[string]string
	Interfaces []sluicekeep.Interface
}

// RuleWords is the vocabulary of approval rules.
func RuleWords() selector.Vocabulary {
	return selector.Vocabulary{
		Keys: []selector.Key{
			{Name: "total", Type: selector.Span, Doc: "all grants for the port and source within 7 days"},
			{Name: "known_clients", Type: selector.Number, Doc: "known clients that the change would cut"},
			{Name: "port", Type: selector.Ports, Doc: "a port of the change"},
			{Name: "asset", Type: selector.Text, Doc: "the asset"},
			{Name: "env", Type: selector.Text, Doc: "environment of the asset"},
		},
		Words: []string{"opens", "closes", "standing", "undoes", "lowers"},
	}
}
