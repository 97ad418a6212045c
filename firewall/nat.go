package firewall

import "slices"

// follow continues each way that a packet may take after nat: as it is where
// it was accepted, and rewritten where a rule rewrote it.
func (e *Evaluator) follow(r ref, t target, next func(target) ref) ref {
	verdicts, nats := e.leaves(r)
	if len(nats) == 0 {
		if verdicts&mayAccept == 0 {
			return r
		}
		return e.apply(opHook, r, next(t))
	}
	out := e.rewrite(r, func(o uint32) ref {
		v, _ := e.outs.split(o)
		return terminal(v &^ mayAccept)
	}, nil)
	if verdicts&mayAccept != 0 {
		where := e.rewrite(r, func(o uint32) ref {
			v, _ := e.outs.split(o)
			return truth(v&mayAccept != 0)
		}, nil)
		out = e.apply(opAlt, out, e.apply(opMask, where, next(t)))
	}
	for _, n := range nats {
		where := e.rewrite(r, func(o uint32) ref {
			_, ns := e.outs.split(o)
			return truth(slices.Contains(ns, n))
		}, nil)
		for _, to := range e.rewritten(t, e.nats[n]) {
			out = e.apply(opAlt, out, e.apply(opMask, where, next(to)))
		}
	}
	return out
}

func truth(b bool) ref {
	if b {
		return full
	}
	return empty
}

// mostTargets is how many targets of a rewriting are followed one by one. Of
// more, each hook is asked about all at once, which can only widen the bounds.
const mostTargets = 16

// rewritten returns where a packet may be headed after a rewriting.
func (e *Evaluator) rewritten(t target, r rewriting) []target {
	t.nat = true
	if r.Verdict == Redirect {
		t.dst = e.host.redirects(t.q.family(), t.self)
	}
	if len(r.To) > 0 {
		t.dst = normal(r.To)
	}
	if len(r.ToPort) > 0 {
		t.dport = normal(r.ToPort)
	}
	if len(t.dst) < 2 || len(t.dst) > mostTargets {
		return []target{t}
	}
	var out []target
	for _, d := range t.dst {
		one := t
		one.dst = []Range{d}
		out = append(out, one)
	}
	return out
}

// leaves returns every verdict and rewriting that a diagram may end in.
func (s *space) leaves(r ref) (verdicts outcome, nats []int) {
	seen := map[ref]bool{}
	var visit func(ref)
	visit = func(r ref) {
		if seen[r] {
			return
		}
		seen[r] = true
		if !r.terminal() {
			for _, e := range s.nodes[r].edges {
				visit(e.to)
			}
			return
		}
		v, n := s.outs.split(r.value())
		verdicts |= v
		nats = append(nats, n...)
	}
	visit(r)
	slices.Sort(nats)
	return verdicts, slices.Compact(nats)
}
