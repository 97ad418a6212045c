package enforce

import (
	"slices"
	"time"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// State is what the firewall must hold for the intents at now. Where two
// intents name the same port, the firmer and later one wins, so undoing one
// never weakens another.
func State(intents []Intent, now time.Time) firewall.State {
	var s firewall.State
	for _, in := range intents {
		if in.Phase == Provisional && !in.Until.After(now) {
			continue // the kernel has ended it; so do we
		}
		if in.Plan.Kind == sluicekeep.Open {
			addOpen(&s, in)
		} else {
			addClose(&s, in)
		}
	}
	s.Closed, s.Cut = latest(s.Closed), latest(s.Cut)
	s.Drain, s.Granted = latest(s.Drain), latest(s.Granted)
	return s
}

func addOpen(s *firewall.State, in Intent) {
	for _, st := range in.Plan.Steps {
		if st.Do == DoOpen {
			s.Granted = append(s.Granted, firewall.Element{Port: st.Port, Source: st.Source, Until: in.Until})
		}
	}
}

func addClose(s *firewall.State, in Intent) {
	for _, st := range in.Plan.Steps {
		e := firewall.Element{Port: st.Port, Source: st.Source, Until: in.Until}
		switch st.Do {
		case DoKeep, DoGuard:
			s.Granted = append(s.Granted, e)
		case DoClose:
			s.Closed = append(s.Closed, e)
			addLive(s, in, e)
		}
	}
	for _, r := range in.Restored {
		s.Granted = append(s.Granted, firewall.Element{Port: r.Port, Source: r.Source, Until: in.Until})
	}
}

// addLive decides the fate of live connections. UDP has no handshake to tell
// old from new, so a closed UDP port is always cut.
func addLive(s *firewall.State, in Intent, e firewall.Element) {
	if Cuts(in, e.Transport) {
		s.Cut = append(s.Cut, e)
	}
	if in.Plan.OnLive == sluicekeep.LiveDrain {
		if end := in.Applied.Add(time.Duration(in.Plan.Drain)); !end.IsZero() {
			s.Drain = append(s.Drain, firewall.Element{Port: e.Port, Until: end})
		}
	}
}

// Cuts reports whether the intent ends live connections of a transport.
func Cuts(in Intent, t sluicekeep.Transport) bool {
	switch in.Plan.OnLive {
	case sluicekeep.LiveCut, sluicekeep.LiveDrain:
		return true
	case sluicekeep.LiveLeave:
		return t == sluicekeep.UDP
	}
	return t == sluicekeep.UDP || in.Phase == Permanent
}

// latest folds entries of one port and source into the one that lasts longest.
func latest(in []firewall.Element) []firewall.Element {
	last := map[sluicekeep.Element]time.Time{}
	for _, e := range in {
		key := sluicekeep.Element{Port: e.Port, Source: e.Source}
		until, seen := last[key]
		switch {
		case !seen, e.Until.IsZero(), !until.IsZero() && e.Until.After(until):
			last[key] = e.Until
		}
	}
	out := make([]firewall.Element, 0, len(last))
	for key, until := range last {
		out = append(out, firewall.Element{Port: key.Port, Source: key.Source, Until: until})
	}
	slices.SortFunc(out, compareElement)
	return out
}

func compareElement(a, b firewall.Element) int {
	if a.Transport != b.Transport {
		if a.Transport < b.Transport {
			return -1
		}
		return 1
	}
	if a.Number != b.Number {
		return int(a.Number) - int(b.Number)
	}
	return comparePrefix(a.Source, b.Source)
}
