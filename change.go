package sluicekeep

import (
	"net/netip"
	"time"
)

// ChangeKind says what a change does.
type ChangeKind string

// The kinds of change.
const (
	Close ChangeKind = "close"
	Open  ChangeKind = "open"
)

// State is where a change stands in its life:
//
//	close: planned → [awaiting_approval] → applying → watching → confirmed | undone
//	open:  planned → [awaiting_approval] → applying → open → expired | undone
//
// Before any effect it may end as refused, denied or failed.
type State string

// The states of a change.
const (
	Planned          State = "planned"
	AwaitingApproval State = "awaiting_approval"
	Applying         State = "applying"
	Watching         State = "watching"
	Opened           State = "open"
	Confirmed        State = "confirmed"
	Undone           State = "undone"
	Expired          State = "expired"
	RefusedState     State = "refused"
	DeniedState      State = "denied"
	Failed           State = "failed"
)

// Over reports whether s is an end: nothing of the change is provisional.
func (s State) Over() bool {
	switch s {
	case Confirmed, Undone, Expired, RefusedState, DeniedState, Failed:
		return true
	}
	return false
}

// OnLive says what happens to connections that live when a port closes.
type OnLive string

// What to do with live connections. The default leaves them while the change
// is watched and cuts them when it is confirmed.
const (
	LiveDefault OnLive = ""
	LiveLeave   OnLive = "leave"
	LiveDrain   OnLive = "drain"
	LiveCut     OnLive = "cut"
)

// Request is what a person asks for; a Plan is made of it.
type Request struct {
	Kind        ChangeKind     `json:"kind" enum:"close,open"`
	Target      string         `json:"target" doc:"a PORT or a SELECTOR"`
	Reason      string         `json:"reason,omitempty"`
	Keep        []netip.Prefix `json:"keep,omitempty"` // close: sources that stay allowed
	Never       []netip.Prefix `json:"never,omitempty"`
	From        []netip.Prefix `json:"from,omitempty"` // open: who may enter
	For         Duration       `json:"for,omitempty"`
	Grace       Duration       `json:"grace,omitempty"`
	OnLive      OnLive         `json:"on_live,omitempty"`
	Drain       Duration       `json:"drain,omitempty"`
	OnKnock     string         `json:"on_knock,omitempty" enum:"restore,tell,"`
	AutoConfirm bool           `json:"auto_confirm,omitempty"`
	Now         bool           `json:"now,omitempty"`
	// Expect, when given, is the plan hash the caller has read; another plan is a conflict.
	Expect string `json:"expect,omitempty"`
}

// Element is one entry of a kernel set: a port, for a source or for everyone.
type Element struct {
	Port
	Source netip.Prefix `json:"source,omitzero"` // zero: everyone, both families
}

// Step is one effect of a plan.
type Step struct {
	Do string `json:"do"` // close | keep | open | guard
	Element
	Text string `json:"text"` // for people
}

// Impact is what a plan would do to people.
type Impact struct {
	KnownClients    *int     `json:"known_clients"` // nil: nobody watched
	Clients         []Client `json:"clients,omitempty"`
	WouldRestore    []Client `json:"would_restore"`
	LiveConnections int      `json:"live_connections"`
	WatchedForS     int64    `json:"watched_for_s"`
	Confidence      string   `json:"confidence"` // one sentence on what cannot be excluded
}

// Plan is everything a change will do. Its hash covers all but Hash itself,
// Impact, Verdict and Reasons, so that what was approved is what is applied.
type Plan struct {
	Hash        string         `json:"hash"`
	Kind        ChangeKind     `json:"kind"`
	Asset       string         `json:"asset"`
	Target      string         `json:"target"`
	Reason      string         `json:"reason"`
	Ports       []Port         `json:"ports"`
	Steps       []Step         `json:"steps"`
	Guards      []Guard        `json:"guards"`
	Grace       Duration       `json:"grace"`           // close: time to confirm; open: how long
	Until       time.Time      `json:"until,omitzero"`  // open: the absolute end
	OnLive      OnLive         `json:"on_live"`         //
	Drain       Duration       `json:"drain,omitempty"` //
	OnKnock     string         `json:"on_knock"`        // restore | tell
	Never       []netip.Prefix `json:"never,omitempty"`
	Restore     []Element      `json:"restore"` // every source a knock would restore
	AutoConfirm bool           `json:"auto_confirm,omitempty"`
	Now         bool           `json:"now,omitempty"`
	Impact      Impact         `json:"impact"`
	Verdict     string         `json:"verdict" enum:"allow,approval,refuse"`
	Reasons     []string       `json:"reasons"`
}

// Actor is who did something, as far as we could tell for ourselves.
type Actor struct {
	Name string `json:"name"`          // local-admin | agent | kernel | user name
	UID  *int   `json:"uid,omitempty"` // from SO_PEERCRED
	Via  string `json:"via"`           // cli | web | api | agent
}

// Approval is one person's word for exactly one plan.
type Approval struct {
	PlanHash string    `json:"plan_hash"`
	Actor    Actor     `json:"actor"`
	At       time.Time `json:"at"`
	How      string    `json:"how"` // single-operator | …
}

// Change is a plan with its approvals, its watch and its end.
type Change struct {
	ID        string     `json:"id"`
	State     State      `json:"state"`
	Stage     string     `json:"stage"` // lease | permanent | …
	Cause     string     `json:"cause,omitempty" enum:"user,deadline,knock,health,regression,"`
	Plan      Plan       `json:"plan"`
	PlanHash  string     `json:"plan_hash"`
	Actor     Actor      `json:"actor"`
	Approval  string     `json:"approval"` // single-operator | …
	Deadline  time.Time  `json:"deadline,omitzero"`
	Asked     time.Time  `json:"asked"`
	Applied   time.Time  `json:"applied,omitzero"`
	Ended     time.Time  `json:"ended,omitzero"`
	ShutAfter Duration   `json:"shut_after,omitempty"` // from the request to the proof
	Restored  []Client   `json:"restored"`
	Knocks    []Knock    `json:"knocks,omitempty"`
	Proofs    []Probe    `json:"proofs,omitempty"`
	Before    []Probe    `json:"before,omitempty"`
	Story     []Event    `json:"story,omitempty"`
	Approvals []Approval `json:"approvals,omitempty"`
	Version   int        `json:"version"` // grows with every write; stale writes are conflicts
}

// Duration is a time.Duration that JSON writes as "30m0s".
type Duration time.Duration

// String renders d as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes d as "30m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "30m", and "7d" as seven days of 24 hours.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// ParseDuration reads a Go duration, or whole days as in "7d". The empty
// string is zero.
func ParseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	if n := len(s) - 1; s[n] == 'd' {
		if h, err := time.ParseDuration(s[:n] + "h"); err == nil && h >= 0 && h < 1e5*time.Hour {
			return h * 24, nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return 0, Errorf(Invalid, "write it like 30s, 45m, 2h or 7d", "%q is not a duration", s)
	}
	return v, nil
}
