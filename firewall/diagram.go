package firewall

import "github.com/sluicekeep/sluicekeep"

// ref names a diagram: a node of a space, or, with the top bit set, a terminal
// with a value of 31 bits. Because nodes are hash-consed, equal refs are equal
// functions and unequal refs are unequal functions.
type ref uint32

const terminalBit ref = 1 << 31

func terminal(v uint32) ref  { return terminalBit | ref(v) }
func (r ref) terminal() bool { return r&terminalBit != 0 }
func (r ref) value() uint32  { return uint32(r &^ terminalBit) }

// Terminals of sets: no packet and every packet.
const (
	empty = terminalBit
	full  = terminalBit | 1
)

// edge leads every value above the previous edge's bound, up to its own, to a
// diagram.
type edge struct {
	upto Value
	to   ref
}

// node decides by one field. Its edges cover all values, neighbours lead to
// different diagrams, and there are at least two.
type node struct {
	level uint8
	hash  uint32
	edges []edge
}

// space owns the nodes of many diagrams over packets with a common order of
// fields. It is not safe for concurrent use.
//
// A diagram is a function from packets to terminals. It tests the fields in
// the order of their levels, so that walking it is a decision.
type space struct {
	nodes  []node
	free   []ref  // swept nodes
	table  []ref  // open addressing over nodes; full means vacant
	used   int    // slots taken in table
	edges  int    // edges of live nodes
	limit  int    // most edges allowed
	next   int    // edges at which to collect
	slack  int    // edges below which collecting is not worth while
	cache  []memo // lossy memory of operations
	tag    uint32 // names operations that have parameters
	buffer []edge // stack of half-made nodes
	roots  []ref  // a stack of what collect must keep for now
	pinned []ref  // what collect must keep for ever
	outs   outcomes
	order  order
}

type memo struct {
	op   uint32
	a, b ref
	to   ref
}

// tooBig is panicked by a space that outgrows its limit, and recovered at
// every public door.
type tooBig struct{ edges int }

const (
	cacheSize    = 1 << 15
	firstCollect = 1 << 15
)

// newSpace makes a space of at most limit edges (24 bytes each).
func newSpace(limit int, o order) *space {
	return &space{
		order: o,
		table: vacant(1 << 10),
		cache: make([]memo, cacheSize),
		limit: limit,
		next:  firstCollect,
		slack: firstCollect,
		tag:   uint32(opCount),
		outs:  newOutcomes(),
	}
}

// vacant returns an empty table of n slots.
func vacant(n int) []ref {
	t := make([]ref, n)
	for i := range t {
		t[i] = full
	}
	return t
}

// rescue turns the panic of an outgrown space into an error.
func rescue(err *error) {
	switch p := recover().(type) {
	case nil:
	case tooBig:
		*err = sluicekeep.Errorf(sluicekeep.Unsupported, "raise the limit or judge the rules piece by piece",
			"the rules are too entangled to be judged exactly: %d intervals", p.edges)
	default:
		panic(p)
	}
}

// rank returns the place in the order of the field that a diagram decides
// first; terminals come last.
func (s *space) rank(r ref) uint8 {
	if r.terminal() {
		return levelCount
	}
	return s.order.rank[s.nodes[r].level]
}

// make returns the one node with these edges. Neighbours that lead to the same
// diagram are joined; a node that decides nothing is its only child.
func (s *space) make(level uint8, edges []edge) ref {
	n := 0
	for _, e := range edges {
		if n > 0 && edges[n-1].to == e.to {
			edges[n-1].upto = e.upto
			continue
		}
		edges[n] = e
		n++
	}
	if n == 1 {
		return edges[0].to
	}
	edges = edges[:n]
	h := hashNode(level, edges)
	slot, found := s.find(level, h, edges)
	if found {
		return s.table[slot]
	}
	return s.insert(slot, node{level, h, append(make([]edge, 0, n), edges...)})
}

// hashNode mixes level and edges (multiply and rotate; no adversary can gain
// more than slowness, and the limit bounds that).
func hashNode(level uint8, edges []edge) uint32 {
	h := uint64(level) + 0x9e3779b97f4a7c15
	for _, e := range edges {
		h = (h ^ e.upto.Lo) * 0xff51afd7ed558ccd
		h ^= h >> 29
		h = (h ^ e.upto.Hi ^ uint64(e.to)<<17) * 0xc4ceb9fe1a85ec53
		h ^= h >> 32
	}
	return uint32(h)
}

// find returns the slot of a node, or the vacant slot where it belongs.
func (s *space) find(level uint8, h uint32, edges []edge) (slot int, found bool) {
	mask := len(s.table) - 1
	for slot = int(h) & mask; s.table[slot] != full; slot = (slot + 1) & mask {
		n := &s.nodes[s.table[slot]]
		if n.hash == h && n.level == level && sameEdges(n.edges, edges) {
			return slot, true
		}
	}
	return slot, false
}

func sameEdges(a, b []edge) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// insert stores a new node, and grows the table before it is half full.
func (s *space) insert(slot int, n node) ref {
	if s.edges += len(n.edges); s.edges > s.limit {
		panic(tooBig{s.edges})
	}
	var r ref
	if k := len(s.free); k > 0 {
		r, s.free = s.free[k-1], s.free[:k-1]
		s.nodes[r] = n
	} else {
		r = ref(len(s.nodes))
		s.nodes = append(s.nodes, n)
	}
	s.table[slot] = r
	if s.used++; s.used*2 > len(s.table) {
		s.rehash(len(s.table) * 2)
	}
	return r
}

// rehash builds the table anew from the nodes that have edges.
func (s *space) rehash(size int) {
	s.table, s.used = vacant(size), 0
	mask := size - 1
	for i := range s.nodes {
		if s.nodes[i].edges == nil {
			continue
		}
		slot := int(s.nodes[i].hash) & mask
		for s.table[slot] != full {
			slot = (slot + 1) & mask
		}
		s.table[slot] = ref(i)
		s.used++
	}
}

// keep protects a diagram from collect until release.
func (s *space) keep(r ref) { s.roots = append(s.roots, r) }

// release forgets what was kept since the stack had this height.
func (s *space) release(height int) { s.roots = s.roots[:height] }

// pin protects a diagram from collect for as long as the space lives.
func (s *space) pin(r ref) ref {
	s.pinned = append(s.pinned, r)
	return r
}

// collect frees every node that no kept diagram uses, once enough garbage may
// have gathered. Callers hold no unkept ref across it.
func (s *space) collect() {
	if s.edges < s.next {
		return
	}
	live := make([]bool, len(s.nodes))
	for _, r := range s.pinned {
		s.mark(r, live)
	}
	for _, r := range s.roots {
		s.mark(r, live)
	}
	s.edges, s.free = 0, s.free[:0]
	for i := range s.nodes {
		if live[i] {
			s.edges += len(s.nodes[i].edges)
			continue
		}
		s.nodes[i].edges = nil
		s.free = append(s.free, ref(i))
	}
	s.rehash(len(s.table))
	clear(s.cache)
	s.next = max(s.slack, 2*s.edges)
}

func (s *space) mark(r ref, live []bool) {
	if r.terminal() || live[r] {
		return
	}
	live[r] = true
	for _, e := range s.nodes[r].edges {
		s.mark(e.to, live)
	}
}

// slot returns the place in the cache of an operation on a and b.
func (s *space) slot(op uint32, a, b ref) *memo {
	h := (uint64(a)<<32 | uint64(b)) * 0x9e3779b97f4a7c15
	h = (h ^ h>>31 ^ uint64(op)) * 0xbf58476d1ce4e5b9
	return &s.cache[h>>40%uint64(len(s.cache))]
}

// apply combines two diagrams packet by packet.
func (s *space) apply(o op, a, b ref) ref {
	if r, ok := s.shortcut(o, a, b); ok {
		return r
	}
	m := s.slot(uint32(o), a, b)
	if m.op == uint32(o) && m.a == a && m.b == b {
		return m.to
	}
	la, lb := s.rank(a), s.rank(b)
	base := len(s.buffer)
	switch {
	case la < lb:
		for _, e := range s.nodes[a].edges {
			s.push(edge{e.upto, s.apply(o, e.to, b)})
		}
	case lb < la:
		for _, e := range s.nodes[b].edges {
			s.push(edge{e.upto, s.apply(o, a, e.to)})
		}
	default:
		s.zip(o, s.nodes[a].edges, s.nodes[b].edges)
	}
	r := s.pop(s.order.levels[min(la, lb)], base)
	*s.slot(uint32(o), a, b) = memo{uint32(o), a, b, r}
	return r
}

// zip applies o to each pair of edges that share values.
func (s *space) zip(o op, x, y []edge) {
	for i, j := 0, 0; i < len(x) && j < len(y); {
		upto, c := x[i].upto, x[i].upto.Cmp(y[j].upto)
		if c > 0 {
			upto = y[j].upto
		}
		s.push(edge{upto, s.apply(o, x[i].to, y[j].to)})
		if c <= 0 {
			i++
		}
		if c >= 0 {
			j++
		}
	}
}

// push adds an edge to the node being made.
func (s *space) push(e edge) { s.buffer = append(s.buffer, e) }

// pop makes the node of the edges pushed since base.
func (s *space) pop(level uint8, base int) ref {
	r := s.make(level, s.buffer[base:])
	s.buffer = s.buffer[:base]
	return r
}

// rewrite rebuilds a diagram bottom-up: leaf maps the terminals, and at
// answers for the nodes it wants to decide by itself. A nil at wants none.
func (s *space) rewrite(r ref, leaf func(uint32) ref, at func(*node) (ref, bool)) ref {
	s.tag++
	return s.rewriteTagged(s.tag, r, leaf, at)
}

func (s *space) rewriteTagged(tag uint32, r ref, leaf func(uint32) ref, at func(*node) (ref, bool)) ref {
	if r.terminal() {
		return leaf(r.value())
	}
	m := s.slot(tag, r, empty)
	if m.op == tag && m.a == r {
		return m.to
	}
	n := s.nodes[r]
	if at != nil {
		if to, ok := at(&n); ok {
			*s.slot(tag, r, empty) = memo{tag, r, empty, to}
			return to
		}
	}
	base := len(s.buffer)
	for _, e := range n.edges {
		s.push(edge{e.upto, s.rewriteTagged(tag, e.to, leaf, at)})
	}
	to := s.pop(n.level, base)
	*s.slot(tag, r, empty) = memo{tag, r, empty, to}
	return to
}

// child returns where a node leads for a value.
func (n *node) child(v Value) ref {
	lo, hi := 0, len(n.edges)-1
	for lo < hi {
		mid := (lo + hi) / 2
		if n.edges[mid].upto.Cmp(v) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return n.edges[lo].to
}

// ranges returns the diagram that leads a field's values in normal ranges to
// in, and all others to out.
func (s *space) ranges(level uint8, normal []Range, in, out ref) ref {
	base := len(s.buffer)
	from, done := Value{}, false
	for _, r := range normal {
		if from.Cmp(r.From) < 0 {
			s.push(edge{r.From.Prev(), out})
		}
		s.push(edge{r.To, in})
		from, done = r.To.Next(), r.To == maxValue()
	}
	if !done {
		s.push(edge{maxValue(), out})
	}
	return s.pop(level, base)
}

// fold combines many diagrams in order with an associative operation, as a
// balanced tree: neighbours first, so that big diagrams are copied only
// log(n) times.
type fold struct {
	s     *space
	op    op
	base  int   // where our part of the kept diagrams starts
	ranks []int // how many diagrams each kept one stands for, as powers of two
}

func (s *space) fold(o op) *fold { return &fold{s: s, op: o, base: len(s.roots)} }

// add appends the next diagram. The sum of all before is kept, nothing else.
func (f *fold) add(r ref) {
	f.s.keep(r)
	f.ranks = append(f.ranks, 0)
	for k := len(f.ranks); k > 1 && f.ranks[k-1] == f.ranks[k-2]; k = len(f.ranks) {
		f.join()
		f.ranks[len(f.ranks)-1]++
	}
	f.s.collect()
}

// join combines the two newest diagrams.
func (f *fold) join() {
	k := len(f.s.roots)
	f.s.roots[k-2] = f.s.apply(f.op, f.s.roots[k-2], f.s.roots[k-1])
	f.s.roots = f.s.roots[:k-1]
	f.ranks = f.ranks[:len(f.ranks)-1]
}

// sum returns the combination, or none when nothing was added. The result is
// not kept.
func (f *fold) sum(none ref) ref {
	if len(f.ranks) == 0 {
		return none
	}
	for len(f.ranks) > 1 {
		f.join()
	}
	r := f.s.roots[f.base]
	f.s.roots = f.s.roots[:f.base]
	return r
}
