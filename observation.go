package sluicekeep

import (
	"net/netip"
	"time"
)

// Process is who holds a socket. Unknown parts are empty, never guessed.
type Process struct {
	PID       int       `json:"pid"`
	Exe       string    `json:"exe"`                 // path, control characters removed
	Unit      string    `json:"unit,omitempty"`      // systemd unit
	Container string    `json:"container,omitempty"` // container id or name
	Image     string    `json:"image,omitempty"`
	User      string    `json:"user,omitempty"` // name, else the numeric uid
	Started   time.Time `json:"started,omitzero"`
}

// Listener is a socket that waits for peers: a TCP socket in LISTEN, or an
// unconnected UDP socket (see sock_diag(7)).
type Listener struct {
	Address netip.Addr `json:"address"` // 0.0.0.0 or :: when bound to any
	Port
	V6Only    bool     `json:"v6only,omitempty"`    // IPV6_V6ONLY: a [::] socket without it answers IPv4 too
	Interface string   `json:"interface,omitempty"` // SO_BINDTODEVICE
	Namespace uint64   `json:"namespace"`           // inode of the network namespace
	Inode     uint64   `json:"inode,omitempty"`
	Process   *Process `json:"process,omitempty"` // nil: nobody we may see
}

// Interface is a network interface with its addresses.
type Interface struct {
	Name     string         `json:"name"`
	Index    int            `json:"index"`
	Loopback bool           `json:"loopback,omitempty"`
	Up       bool           `json:"up"`
	Prefixes []netip.Prefix `json:"prefixes"`
}

// Use is what one source was seen to do with one port within one hour.
// Connections without both byte counts are seen, but prove no payload.
type Use struct {
	Port
	Source   netip.Addr `json:"source"`
	Hour     time.Time  `json:"hour"` // start of the hour, UTC
	First    time.Time  `json:"first"`
	Last     time.Time  `json:"last"`
	BytesIn  uint64     `json:"bytes_in"`
	BytesOut uint64     `json:"bytes_out"`
	By       string     `json:"by"` // sock_diag | tracepoint | flow
}

// Knock is an attempt on a closed port, counted by source.
type Knock struct {
	Port
	Source  netip.Addr `json:"source"`
	Count   uint64     `json:"count"`
	First   time.Time  `json:"first"`
	Last    time.Time  `json:"last"`
	Spoofed bool       `json:"spoofed,omitempty"` // failed the reverse-path check
}

// Reach says how an endpoint answers a probe. The zero value is unknown.
type Reach string

// Answers to a probe. Closed means refused; filtered means silence.
const (
	ReachUnknown  Reach = ""
	ReachOpen     Reach = "open"
	ReachClosed   Reach = "closed"
	ReachFiltered Reach = "filtered"
)

// MarshalText writes the zero value as "unknown".
func (r Reach) MarshalText() ([]byte, error) {
	if r == ReachUnknown {
		return []byte("unknown"), nil
	}
	return []byte(r), nil
}

// UnmarshalText reads what MarshalText writes.
func (r *Reach) UnmarshalText(b []byte) error {
	*r = Reach(b)
	if string(b) == "unknown" {
		*r = ReachUnknown
	}
	return nil
}

// Vantage is a place from which reachability is probed: this machine itself,
// a network namespace on it, or another machine over SSH.
type Vantage struct {
	Name      string `json:"name"`
	Zone      Zone   `json:"zone" enum:"host,segment,organisation,internet"`
	SSH       string `json:"ssh,omitempty"`       // HOST or USER@HOST
	Namespace string `json:"namespace,omitempty"` // name below /run/netns, or a path
}

// Probe is one answer seen from one vantage.
type Probe struct {
	Vantage string     `json:"vantage"`
	Zone    Zone       `json:"zone"`
	Address netip.Addr `json:"address"` // the address that was dialled
	Port
	Reach  Reach     `json:"reach"`
	Reason string    `json:"reason"` // syn-ack | rst | timeout | icmp-… | reply | unreachable
	At     time.Time `json:"at"`
}
