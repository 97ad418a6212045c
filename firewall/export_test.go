package firewall

// UseNestingOrder makes an evaluator anew, as it is for entangled rules.
func UseNestingOrder(h Host) *Evaluator { return newEvaluator(h, nestingOrder(), defaultLimit) }

// SweepOften makes an evaluator forget as soon and as much as it may, so that
// tests meet every mistake in what it keeps.
func (e *Evaluator) SweepOften() {
	e.slack, e.next, e.cache = 0, 0, make([]memo, 16)
}
