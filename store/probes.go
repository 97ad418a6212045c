package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// answer is the part that both tables of probes share.
type answer struct {
	Vantage   string
	Address   string
	Transport string
	Port      int64
	Zone      string
	Reach     string
	Reason    string
	At        stamp
}

// latestProbe is the answer that stands.
type latestProbe struct {
	bun.BaseModel `bun:"table:probes,alias:p"`
	answer
}

// pastProbe is an answer that a different one has replaced.
type pastProbe struct {
	bun.BaseModel `bun:"table:probe_history,alias:h"`
	ID            int64 `bun:",pk,autoincrement"`
	answer
}

// target is what a probe is an answer about.
type target struct {
	vantage, address, transport string
	port                        int64
}

// target returns what a is about.
func (a answer) target() target { return target{a.Vantage, a.Address, a.Transport, a.Port} }

// answerOf checks p and makes its row.
func answerOf(p sluicekeep.Probe) (answer, error) {
	if !p.Address.IsValid() || p.Transport.Number() == 0 {
		return answer{}, sluicekeep.Errorf(sluicekeep.Invalid, "report address and port",
			"a probe from %q has no target", p.Vantage)
	}
	return answer{
		p.Vantage, p.Address.String(), string(p.Transport), int64(p.Number),
		plain(string(p.Zone)), plain(string(p.Reach)), plain(p.Reason), stampOf(p.At),
	}, checkName("vantage", p.Vantage)
}

// probe is the reverse of answerOf.
func (a answer) probe() (sluicekeep.Probe, error) {
	addr, err := netip.ParseAddr(a.Address)
	if err != nil {
		return sluicekeep.Probe{}, fmt.Errorf("read the stored probes: %w", err)
	}
	return sluicekeep.Probe{
		Vantage: a.Vantage, Zone: sluicekeep.Zone(a.Zone), Address: addr,
		Port:  sluicekeep.Port{Transport: sluicekeep.Transport(a.Transport), Number: uint16(a.Port)},
		Reach: sluicekeep.Reach(a.Reach), Reason: a.Reason, At: a.At.time(),
	}, nil
}

// probeRows bounds the rows of one statement.
const probeRows = 500

// SaveProbes implements [Probes].
func (s *DB) SaveProbes(ctx context.Context, probes []sluicekeep.Probe) error {
	rows, err := sortProbes(probes)
	if err != nil || len(rows) == 0 {
		return err
	}
	return s.write(ctx, "save the probes", func(ctx context.Context, tx bun.Tx) error {
		return saveProbes(ctx, tx, rows)
	})
}

// sortProbes puts answers into the order of their targets and times.
func sortProbes(probes []sluicekeep.Probe) ([]answer, error) {
	rows := make([]answer, len(probes))
	for i, p := range probes {
		var err error
		if rows[i], err = answerOf(p); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(rows, func(a, b answer) int {
		return cmp.Or(cmp.Compare(a.Vantage, b.Vantage), cmp.Compare(a.Address, b.Address),
			cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Port, b.Port), cmp.Compare(a.At, b.At))
	})
	return rows, nil
}

// saveProbes walks sorted answers in the order of time, so that a batch with
// several answers of one target leaves the same history as one by one.
func saveProbes(ctx context.Context, tx bun.Tx, rows []answer) error {
	known, err := knownAnswers(ctx, tx, rows)
	if err != nil {
		return err
	}
	fresh := map[target]answer{}
	var past []pastProbe
	for _, a := range rows {
		old, ok := known[a.target()]
		if ok && a.At < old.At {
			continue
		}
		if ok && old.Reach != a.Reach {
			past = append(past, pastProbe{answer: old})
		}
		known[a.target()], fresh[a.target()] = a, a
	}
	err = chunked(past, probeRows, func(rows []pastProbe) error {
		_, err := tx.NewInsert().Model(&rows).ExcludeColumn("id").Returning("NULL").Exec(ctx)
		return err
	})
	if err != nil {
		return err
	}
	latest := make([]latestProbe, 0, len(fresh))
	for _, a := range rows {
		if f, ok := fresh[a.target()]; ok && f == a {
			latest = append(latest, latestProbe{answer: a})
			delete(fresh, a.target())
		}
	}
	return chunked(latest, probeRows, func(rows []latestProbe) error {
		_, err := tx.NewInsert().Model(&rows).On("CONFLICT (vantage, address, transport, port) DO UPDATE").
			Set("zone = EXCLUDED.zone").Set("reach = EXCLUDED.reach").
			Set("reason = EXCLUDED.reason").Set("at = EXCLUDED.at").
			Where("EXCLUDED.at >= p.at").Exec(ctx)
		return err
	})
}

// knownAnswers reads what is known from the vantages of rows. One vantage is
// worked by one prober, so nothing is locked; should two meet after all, the
// later answer stays and the history may lack one entry.
func knownAnswers(ctx context.Context, tx bun.Tx, rows []answer) (map[target]answer, error) {
	vantages := map[string]bool{}
	for _, a := range rows {
		vantages[a.Vantage] = true
	}
	var latest []latestProbe
	err := tx.NewSelect().Model(&latest).
		Where("vantage IN (?)", bun.List(slices.Sorted(maps.Keys(vantages)))).Scan(ctx)
	known := make(map[target]answer, len(latest))
	for _, l := range latest {
		known[l.target()] = l.answer
	}
	return known, err
}

// Probes implements [Probes]; they come sorted by target.
func (s *DB) Probes(ctx context.Context, since time.Time) ([]sluicekeep.Probe, error) {
	var rows []latestProbe
	err := s.bun.NewSelect().Model(&rows).Where("at >= ?", stampOf(since)).Scan(ctx)
	if err != nil {
		return nil, s.failed("read the probes", err)
	}
	out := make([]sluicekeep.Probe, len(rows))
	for i, r := range rows {
		if out[i], err = r.probe(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b sluicekeep.Probe) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Number, b.Number),
			cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Vantage, b.Vantage))
	})
	return out, nil
}

// ProbeHistory implements [Probes].
func (s *DB) ProbeHistory(
	ctx context.Context, a netip.Addr, p sluicekeep.Port, since time.Time,
) ([]sluicekeep.Probe, error) {
	var latest []latestProbe
	var past []pastProbe
	for _, q := range []*bun.SelectQuery{s.bun.NewSelect().Model(&latest), s.bun.NewSelect().Model(&past)} {
		err := q.Where("address = ?", a.String()).Where("transport = ?", string(p.Transport)).
			Where("port = ?", int64(p.Number)).Where("at >= ?", stampOf(since)).Scan(ctx)
		if err != nil {
			return nil, s.failed("read the history of probes", err)
		}
	}
	answers := make([]answer, 0, len(latest)+len(past))
	for _, l := range latest {
		answers = append(answers, l.answer)
	}
	for _, h := range past {
		answers = append(answers, h.answer)
	}
	slices.SortFunc(answers, func(a, b answer) int {
		return cmp.Or(cmp.Compare(b.At, a.At), cmp.Compare(a.Vantage, b.Vantage))
	})
	out := make([]sluicekeep.Probe, len(answers))
	for i, a := range answers {
		var err error
		if out[i], err = a.probe(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
