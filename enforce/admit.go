package enforce

import (
	"slices"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// Standing is what the agent knows for itself when a desired state arrives:
// what it holds, what a person approved at its own door, and its guards.
type Standing struct {
	Now      time.Time
	Epoch    int64
	Revision int64
	Held     []Intent
	Approved func(hash string) bool // by a person whom the agent itself has seen
	Guards   []sluicekeep.Guard
	// Fresh reports whether an operator's connection to the management port
	// was accepted after the given time (change.md, Guards).
	Fresh func(p sluicekeep.Port, after time.Time) bool
}

// Effect is one transition the agent has to make durable and then effective.
type Effect struct {
	Kind   string // apply | confirm | undo
	Intent Intent
}

// The kinds of effect.
const (
	EffectApply   = "apply"
	EffectConfirm = "confirm"
	EffectUndo    = "undo"
)

// Admit compares what is wanted with what stands and returns the effects that
// the agent may make, in the order of want and removals last. It refuses the
// whole state when any part is not allowed: nothing is half done.
func Admit(want Desired, st Standing) ([]Effect, error) {
	if want.Epoch < st.Epoch || want.Epoch == st.Epoch && want.Revision < st.Revision {
		return nil, sluicekeep.Errorf(sluicekeep.Conflict, "read the state again",
			"desired state %d.%d is older than %d.%d", want.Epoch, want.Revision, st.Epoch, st.Revision)
	}
	var effects []Effect
	for _, in := range want.Intents {
		e, err := admitOne(in, st)
		if err != nil {
			return nil, err
		}
		effects = append(effects, e...)
	}
	for _, h := range st.Held {
		if slices.ContainsFunc(want.Intents, func(in Intent) bool { return in.Change == h.Change }) {
			continue
		}
		if err := admitUndo(h, st); err != nil {
			return nil, err
		}
		effects = append(effects, Effect{EffectUndo, h})
	}
	return effects, nil
}

func admitOne(in Intent, st Standing) ([]Effect, error) {
	if Hash(in.Plan) != in.Plan.Hash {
		return nil, sluicekeep.Errorf(sluicekeep.Refused, "plan again", "the plan of %s does not have the hash it claims", in.Change)
	}
	i := slices.IndexFunc(st.Held, func(h Intent) bool { return h.Change == in.Change })
	if i < 0 {
		return admitNew(in, st)
	}
	held := st.Held[i]
	switch {
	case held.Plan.Hash != in.Plan.Hash:
		return nil, sluicekeep.Errorf(sluicekeep.Refused, "make a new change", "the plan of %s was edited after it was applied", in.Change)
	case held.Phase == Provisional && in.Phase == Permanent:
		return admitConfirm(held, in, st)
	}
	return nil, nil // already held: repeated commands are harmless
}

func admitNew(in Intent, st Standing) ([]Effect, error) {
	if err := CheckGuards(in.Plan, st.Guards); err != nil {
		return nil, err
	}
	if in.Plan.Kind == sluicekeep.Open {
		return admitOpen(in, st)
	}
	limit := st.Now.Add(time.Duration(in.Plan.Grace))
	switch {
	case in.Plan.Now && in.Phase == Permanent:
	case in.Phase != Provisional:
		return nil, sluicekeep.Errorf(sluicekeep.Refused, "apply it with a lease first", "%s would close without a watch", in.Change)
	case !in.Until.After(st.Now):
		return nil, sluicekeep.Errorf(sluicekeep.Conflict, "plan again", "the lease of %s has ended", in.Change)
	case in.Until.After(limit) || in.Until.After(st.Now.Add(MaxGrace)):
		return nil, sluicekeep.Errorf(sluicekeep.Refused, "ask for a shorter grace", "the lease of %s is longer than its plan allows", in.Change)
	}
	return []Effect{{EffectApply, in}}, nil
}

func admitOpen(in Intent, st Standing) ([]Effect, error) {
	switch {
	case !st.Approved(in.Plan.Hash):
		return nil, sluicekeep.Errorf(sluicekeep.Waiting, "approve it on the host as root: sluicekeep approve "+in.Change,
			"no approval for the plan of %s has reached this host", in.Change)
	case in.Phase != Provisional || in.Until.After(in.Plan.Until):
		return nil, sluicekeep.Errorf(sluicekeep.Refused, "plan again", "%s would outlast its approved end", in.Change)
	case !in.Until.After(st.Now):
		return nil, sluicekeep.Errorf(sluicekeep.Conflict, "ask again", "the opening %s has ended already", in.Change)
	}
	return []Effect{{EffectApply, in}}, nil
}

// admitConfirm makes a close permanent. Without a fresh login a change of a
// management port could confirm the very plan that locked its operator out.
func admitConfirm(held, in Intent, st Standing) ([]Effect, error) {
	if held.Plan.Kind == sluicekeep.Open {
		return nil, sluicekeep.Errorf(sluicekeep.Refused, "write a standing grant", "an opening has an end and cannot be confirmed")
	}
	if !held.Until.After(st.Now) {
		return nil, sluicekeep.Errorf(sluicekeep.Conflict, "close it again", "the lease of %s ended before the confirm", in.Change)
	}
	console := in.Confirm != nil && in.Confirm.Console
	if port, ok := TouchesManagement(held.Plan, st.Guards); ok && !console && !st.Fresh(port, held.Applied) {
		return nil, sluicekeep.Errorf(sluicekeep.Refused, "open a second login now, or say --console when you sit at the machine",
			"guard operator: nobody has logged in on %s since %s was applied", port, in.Change)
	}
	held.Phase, held.Until, held.Confirm = Permanent, time.Time{}, in.Confirm
	return []Effect{{EffectConfirm, held}}, nil
}

// admitUndo allows what tightens or was provisional; giving up a confirmed
// close lets more through, so it needs a person's word.
func admitUndo(h Intent, st Standing) error {
	if h.Phase != Permanent || st.Approved(UndoHash(h.Change, h.Plan.Hash)) {
		return nil
	}
	return sluicekeep.Errorf(sluicekeep.Waiting, "approve it on the host as root: sluicekeep approve "+h.Change,
		"taking back the confirmed close %s needs an approval", h.Change)
}
