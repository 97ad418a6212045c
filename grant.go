package sluicekeep

import (
	"net/netip"
	"time"
)

// Grant is the permission for a port to be open. No grant means that it
// should be closed; there is no deny and no order.
type Grant struct {
	ID         string         `json:"id"`
	Asset      string         `json:"asset"` // name, or selector, of the assets it is for
	Ports      []Port         `json:"ports"`
	From       []netip.Prefix `json:"from"` // empty: the internet, that is everyone
	Because    string         `json:"because"`
	Owner      string         `json:"owner"`
	ApprovedBy string         `json:"approved_by,omitempty"`
	Dependence *int           `json:"dependence,omitempty"` // 0 to 10, the owner's word
	HeldBy     *Identity      `json:"held_by,omitempty"`
	Until      time.Time      `json:"until,omitzero"`      // temporary: ends in the kernel at this instant
	ReviewBy   time.Time      `json:"review_by,omitzero"`  // standing: must be reviewed
	OnEnd      string         `json:"on_end,omitempty"`    // cut | drain DURATION
	Source     string         `json:"source"`              // policy | approval | draft
	Tombstone  string         `json:"tombstone,omitempty"` // why it was ended
}

// Identity names the one holder a grant is for; the grant is void while
// another holds the port.
type Identity struct {
	Unit    string `json:"unit,omitempty"`
	Image   string `json:"image,omitempty"`
	Exe     string `json:"exe,omitempty"`
	Package string `json:"package,omitempty"`
}

// Guard is traffic that no plan may cut.
type Guard struct {
	Name    string         `json:"name"` // loopback | dns-replies | dhcp | nd | operator | policy …
	Port    *Port          `json:"port,omitempty"`
	Sources []netip.Prefix `json:"sources,omitempty"`
	Why     string         `json:"why"`
}

// Client is a source that completed a connection to a port. It is restored
// after a knock only if it moved payload both ways in two distinct hours.
type Client struct {
	Port
	Source       netip.Addr `json:"source"`
	Zone         Zone       `json:"zone"`
	First        time.Time  `json:"first"`
	Last         time.Time  `json:"last"`
	PayloadHours int        `json:"payload_hours"` // distinct hours with payload both ways
	By           string     `json:"by"`            // sock_diag | tracepoint | flow
}
