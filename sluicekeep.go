// Package sluicekeep holds the words of the product: assets, endpoints,
// observations, profiles, grants, guards, changes. It does no I/O and imports
// only the standard library, so every step of the loop can speak of the same
// things without knowing any other step.
//
// For each endpoint there are three truths: what is declared (all rule
// stores), what is held (sockets and NAT) and what is reachable (probed from
// outside). The product is the contradiction between them.
//
// Zero values are the safe ones: a [Reach] is unknown, an [Authority] is
// nobody, a [Declared] is unknown.
package sluicekeep

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Zone says where traffic comes from, seen from one asset.
type Zone string

// The four zones, from the inside out.
const (
	ZoneHost         Zone = "host"
	ZoneSegment      Zone = "segment"
	ZoneOrganisation Zone = "organisation"
	ZoneInternet     Zone = "internet"
)

// Zones lists all zones from the inside out.
func Zones() []Zone { return []Zone{ZoneHost, ZoneSegment, ZoneOrganisation, ZoneInternet} }

// Family is an address family of the internet protocol.
type Family string

// The two families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// FamilyOf returns the family of a; a v4-mapped address counts as IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Transport is an IP protocol that has ports.
type Transport string

// The transports Sluicekeep governs.
const (
	TCP  Transport = "tcp"
	UDP  Transport = "udp"
	SCTP Transport = "sctp"
)

// Number returns the IANA protocol number, 0 for an unknown transport.
func (t Transport) Number() uint8 {
	switch t {
	case TCP:
		return 6
	case UDP:
		return 17
	case SCTP:
		return 132
	}
	return 0
}

// Port is a transport and a number from 1 to 65535.
type Port struct {
	Transport Transport `json:"transport" enum:"tcp,udp,sctp"`
	Number    uint16    `json:"port"`
}

// String renders p as in "443/tcp".
func (p Port) String() string { return strconv.Itoa(int(p.Number)) + "/" + string(p.Transport) }

// ParsePort reads "443/tcp", "53/udp" or a bare "443", which means TCP and UDP.
func ParsePort(s string) ([]Port, error) {
	num, tr, given := strings.Cut(s, "/")
	n, err := strconv.ParseUint(num, 10, 32)
	if err != nil || n < 1 || n > 65535 {
		return nil, Errorf(Invalid, "give a port from 1 to 65535, like 443, 443/tcp or 53/udp", "%q is not a port", s)
	}
	if !given {
		return []Port{{TCP, uint16(n)}, {UDP, uint16(n)}}, nil
	}
	switch t := Transport(strings.ToLower(tr)); t {
	case TCP, UDP, SCTP:
		return []Port{{t, uint16(n)}}, nil
	}
	return nil, Errorf(Invalid, "use tcp, udp or sctp", "%q is not a transport of port %s", tr, num)
}

// Endpoint is one place where a service may answer. A wildcard address is
// 0.0.0.0 or ::; a dual-stack socket makes two endpoints.
type Endpoint struct {
	Asset   string     `json:"asset"`
	Address netip.Addr `json:"address"`
	Port
}

// Family returns the family of the endpoint's address.
func (e Endpoint) Family() Family { return FamilyOf(e.Address) }

// String renders e as in "web-01 [::]:80/tcp".
func (e Endpoint) String() string {
	return fmt.Sprintf("%s %s/%s", e.Asset, netip.AddrPortFrom(e.Address, e.Number), e.Transport)
}

// Kind classes an error, so that an exit code and an HTTP status each follow
// from it in one place.
type Kind string

// The kinds of error. The zero Kind is an internal error.
const (
	Internal    Kind = "internal"
	Invalid     Kind = "invalid"     // the input is wrong: exit 2
	NotFound    Kind = "not_found"   // no such thing: exit 1
	Conflict    Kind = "conflict"    // it changed meanwhile, or is in use: exit 1
	Refused     Kind = "refused"     // a guard or the policy says no: exit 3
	Waiting     Kind = "waiting"     // an approval is missing: exit 4
	Denied      Kind = "denied"      // the caller may not: exit 1
	Unsupported Kind = "unsupported" // this kernel, build or target cannot: exit 2
	Unavailable Kind = "unavailable" // a needed process, disk or peer does not answer: exit 1
)

// Error is an error that a person will read: what happened, to what, and what
// to do next, on one line.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
	Err     error  `json:"-"`
}

// Errorf makes an Error. A %w in format keeps its cause for errors.Is.
func Errorf(kind Kind, next, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: wrapped.Error(), Next: next, Err: wrapped}
}

// Error returns the message and the next step.
func (e *Error) Error() string {
	if e.Next == "" {
		return e.Message
	}
	return e.Message + "; " + e.Next
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Event is something that happened, as told live to people and programs.
type Event struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`             // ports | change | knock | repaired | expired | agent | story
	Change string    `json:"change,omitempty"` // the change it belongs to
	Text   string    `json:"text,omitempty"`   // English; the kind is what programs read
	Fields Fields    `json:"fields,omitempty"`
}

// Fields are an event's values by name.
type Fields map[string]string
