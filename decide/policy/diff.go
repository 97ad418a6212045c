package policy

import (
	"net/netip"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// Delta is one difference in meaning.
type Delta struct {
	Kind    string // sources | asset | mode | guard | approval | weights
	On      string // the asset
	Port    sluicekeep.Port
	HeldBy  string         // the holder it is about, empty: any
	Gains   []netip.Prefix // sources that get in
	Loses   []netip.Prefix // sources that no longer do
	From    time.Time      // the difference starts then; zero: at once
	Until   time.Time      // and ends then; zero: never
	Clients []sluicekeep.Client
	Opens   bool   // lets more through than before
	Text    string // for people
}
