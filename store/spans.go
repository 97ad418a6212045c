package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// span is what was true of one endpoint from one time until another.
//
// The body changes in place when only passing details change (a process id,
// the time of a probe); when the state itself changes a new span begins.
type span struct {
	bun.BaseModel `bun:"table:spans,alias:span"`
	ID            int64 `bun:",pk,autoincrement"`
	Asset         string
	Address       string
	Transport     string
	Port          int64
	StateHash     string
	BodyHash      string
	Body          string
	FirstSeen     stamp
	FromAt        stamp
	UntilAt       stamp
}

// profile reads the span; seen is when its asset was last looked at.
func (sp span) profile(p *sluicekeep.Profile, seen stamp) error {
	if err := decode(sp.Body, p, "port of "+sp.Asset); err != nil {
		return err
	}
	p.FirstSeen, p.LastSeen = sp.FirstSeen.time(), max(seen, sp.FromAt).time()
	for z, b := range p.Basis {
		if b.By == "rules" {
			b.At = p.LastSeen
			p.Basis[z] = b
		}
	}
	return nil
}

// present is what is open of one asset at one generation of its spans. It
// saves reading all spans back to learn that nothing has changed; another
// process that writes raises the generation and so makes it void.
type present struct {
	generation int64
	open       map[place]openSpan
}

// place is an endpoint without its asset.
type place struct {
	address netip.Addr
	port    sluicekeep.Port
}

// openSpan is what must be known of an open span to tell whether it still
// holds: hashes instead of bodies, since there may be many.
type openSpan struct {
	id          int64
	state, body string // hashes
	firstSeen   stamp
}

// presentOf returns what is open of a, from memory when that is still true.
func (s *DB) presentOf(ctx context.Context, tx bun.Tx, a asset) (*present, error) {
	s.mu.Lock()
	p := s.present[a.Name]
	s.mu.Unlock()
	if p != nil && p.generation == a.Generation {
		return p, nil
	}
	p = &present{a.Generation, map[place]openSpan{}}
	var spans []span
	err := tx.NewSelect().Model(&spans).ExcludeColumn("body").
		Where("asset = ?", a.Name).Where("until_at = ?", forever).Scan(ctx)
	if err != nil {
		return nil, err
	}
	for _, sp := range spans {
		addr, err := netip.ParseAddr(sp.Address)
		if err != nil {
			return nil, fmt.Errorf("read the stored port of %s: %w", a.Name, err)
		}
		at := place{addr, sluicekeep.Port{Transport: sluicekeep.Transport(sp.Transport), Number: uint16(sp.Port)}}
		p.open[at] = openSpan{sp.ID, sp.StateHash, sp.BodyHash, sp.FirstSeen}
	}
	return p, nil
}

// difference is what a save has to write.
type difference struct {
	ended   []int64        // spans that end
	begun   map[place]span // spans that begin
	touched map[place]span // open spans of which only passing details changed
	gone    []place        // endpoints that vanished
}

// empty reports whether nothing changed, which is by far the most common.
func (d difference) empty() bool { return len(d.ended)+len(d.begun)+len(d.touched) == 0 }

// compare finds what differs between p and the endpoints that were seen. The
// last profile of an endpoint wins.
func (p *present) compare(ps []sluicekeep.Profile) (difference, error) {
	d := difference{begun: map[place]span{}, touched: map[place]span{}}
	seen := make(map[place]int, len(ps))
	for i := range ps {
		seen[place{ps[i].Address, ps[i].Port}] = i
	}
	for at, i := range seen {
		if err := d.add(at, ps[i], p.open[at]); err != nil {
			return d, err
		}
	}
	for at, o := range p.open {
		if _, ok := seen[at]; !ok {
			d.ended, d.gone = append(d.ended, o.id), append(d.gone, at)
		}
	}
	return d, nil
}

// add sorts one endpoint that was seen into unchanged, touched or begun. The
// state is hashed only when the body differs, which keeps a quiet save cheap.
func (d *difference) add(at place, p sluicekeep.Profile, o openSpan) error {
	if !at.address.IsValid() {
		return sluicekeep.Errorf(sluicekeep.Invalid, "give every port an address",
			"port %s of %s has no address", p.Port, p.Asset)
	}
	body, err := json.Marshal(lasting(p))
	if err != nil {
		return err
	}
	sp := span{BodyHash: digest(body)}
	if sp.BodyHash == o.body {
		return nil
	}
	state, err := json.Marshal(essence(p))
	if err != nil {
		return err
	}
	sp.Body, sp.StateHash, sp.ID, sp.FirstSeen = string(body), digest(state), o.id, o.firstSeen
	if sp.StateHash == o.state {
		d.touched[at] = sp
		return nil
	}
	if o.id != 0 {
		d.ended = append(d.ended, o.id)
	}
	d.begun[at] = sp
	return nil
}

// digest is a hash that no banner or rule text can make collide on purpose.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// lasting is p without what a look that changes nothing would change: when it
// was seen, and when the rules were last read.
func lasting(p sluicekeep.Profile) sluicekeep.Profile {
	p.FirstSeen, p.LastSeen = time.Time{}, time.Time{}
	p.Basis = maps.Clone(p.Basis)
	for z, b := range p.Basis {
		if b.By == "rules" {
			b.At = time.Time{}
			p.Basis[z] = b
		}
	}
	return p
}

// essence is p without passing details. A restarted process, one client more
// or a fresh probe with the same answer are no new state.
func essence(p sluicekeep.Profile) sluicekeep.Profile {
	p = lasting(p)
	p.KnownClients = nil
	for z, b := range p.Basis {
		b.At = time.Time{}
		p.Basis[z] = b
	}
	if p.Process != nil {
		pr := *p.Process
		pr.PID, pr.Started = 0, time.Time{}
		p.Process = &pr
	}
	if p.Service != nil {
		sv := *p.Service
		sv.Confidence = 0
		p.Service = &sv
	}
	if p.Risk != nil {
		r := *p.Risk
		r.Parts = nil
		p.Risk = &r
	}
	return p
}

// spanRows bounds the rows of one statement.
const spanRows = 200

// apply writes d and returns what is present after it.
func (d difference) apply(ctx context.Context, tx bun.Tx, a asset, old *present) (*present, error) {
	now := &present{a.Generation + 1, maps.Clone(old.open)}
	for _, at := range d.gone {
		delete(now.open, at)
	}
	if err := d.end(ctx, tx, a.Seen); err != nil {
		return nil, err
	}
	if err := d.touch(ctx, tx, now); err != nil {
		return nil, err
	}
	if err := d.begin(ctx, tx, a, now); err != nil {
		return nil, err
	}
	_, err := tx.NewUpdate().Model(&a).Set("generation = ?", now.generation).WherePK().Exec(ctx)
	return now, err
}

// end closes the spans that no longer hold.
func (d difference) end(ctx context.Context, tx bun.Tx, at stamp) error {
	return chunked(d.ended, spanRows, func(ids []int64) error {
		_, err := tx.NewUpdate().Model((*span)(nil)).Set("until_at = ?", at).Where("id IN (?)", bun.List(ids)).Exec(ctx)
		return err
	})
}

// touch renews the bodies of spans that go on.
func (d difference) touch(ctx context.Context, tx bun.Tx, now *present) error {
	for at, sp := range d.touched {
		_, err := tx.NewUpdate().Model(&sp).Column("body", "body_hash").WherePK().Exec(ctx)
		if err != nil {
			return err
		}
		o := now.open[at]
		o.body = sp.BodyHash
		now.open[at] = o
	}
	return nil
}

// begin writes the new spans and enters their ids into what is present.
func (d difference) begin(ctx context.Context, tx bun.Tx, a asset, now *present) error {
	if len(d.begun) == 0 {
		return nil
	}
	known, err := d.comebacks(ctx, tx, a.Name)
	if err != nil {
		return err
	}
	rows := make([]*span, 0, len(d.begun))
	for at, sp := range d.begun {
		sp.ID, sp.Asset, sp.FromAt, sp.UntilAt = 0, a.Name, a.Seen, forever
		sp.Address, sp.Transport, sp.Port = at.address.String(), string(at.port.Transport), int64(at.port.Number)
		if sp.FirstSeen == 0 {
			sp.FirstSeen = a.Seen
			if t, ok := known[at]; ok {
				sp.FirstSeen = t
			}
		}
		rows = append(rows, &sp)
	}
	err = chunked(rows, spanRows, func(rows []*span) error {
		_, err := tx.NewInsert().Model(&rows).ExcludeColumn("id").Returning("id").Exec(ctx)
		return err
	})
	for _, sp := range rows {
		at := place{netip.MustParseAddr(sp.Address), sluicekeep.Port{
			Transport: sluicekeep.Transport(sp.Transport), Number: uint16(sp.Port),
		}}
		now.open[at] = openSpan{sp.ID, sp.StateHash, sp.BodyHash, sp.FirstSeen}
	}
	return err
}

// comebacks returns when endpoints that have no open span were first seen, so
// that one that comes back is not new. It reads history only when it must.
func (d difference) comebacks(ctx context.Context, tx bun.Tx, asset string) (map[place]stamp, error) {
	fresh := slices.ContainsFunc(slices.Collect(maps.Values(d.begun)), func(sp span) bool { return sp.FirstSeen == 0 })
	if !fresh {
		return nil, nil
	}
	var spans []span
	err := tx.NewSelect().Model(&spans).Column("address", "transport", "port").
		ColumnExpr("MIN(first_seen) AS first_seen").Where("asset = ?", asset).
		Group("address", "transport", "port").Scan(ctx)
	known := make(map[place]stamp, len(spans))
	for _, sp := range spans {
		if addr, err := netip.ParseAddr(sp.Address); err == nil {
			port := sluicekeep.Port{Transport: sluicekeep.Transport(sp.Transport), Number: uint16(sp.Port)}
			known[place{addr, port}] = sp.FirstSeen
		}
	}
	return known, err
}
