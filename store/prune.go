package store

import (
	"cmp"
	"context"
	"time"

	"github.com/uptrace/bun"
)

// Prune implements [Pruner]. All or nothing is forgotten.
func (s *DB) Prune(ctx context.Context, now time.Time, r Retention) (Pruned, error) {
	var n Pruned
	d := DefaultRetention()
	err := s.write(ctx, "forget what is too old", func(ctx context.Context, tx bun.Tx) error {
		p := pruning{ctx: ctx, tx: tx}
		p.drop(&n.Uses, (*use)(nil), "last_at < ?", cutoff(now, r.Clients, d.Clients))
		p.drop(nil, (*coverageRow)(nil), "topic = 'uses' AND until_at < ?", cutoff(now, r.Clients, d.Clients))
		p.drop(&n.Spans, (*span)(nil), "until_at < ?", cutoff(now, r.Spans, d.Spans))
		p.drop(nil, (*coverageRow)(nil), "topic <> 'uses' AND until_at < ?", cutoff(now, r.Spans, d.Spans))
		p.drop(&n.Probes, (*pastProbe)(nil), "at < ?", cutoff(now, r.Probes, d.Probes))
		p.drop(&n.Probes, (*latestProbe)(nil), "at < ?", cutoff(now, r.Probes, d.Probes))
		p.drop(&n.Events, (*event)(nil), "at < ?", cutoff(now, r.Events, d.Events))
		p.drop(&n.Keys, (*requestKey)(nil), "claimed < ?", cutoff(now, r.Keys, d.Keys))
		p.drop(&n.Tokens, (*token)(nil), "expires > 0 AND expires < ?", stampOf(now))
		return p.err
	})
	if err != nil {
		return Pruned{}, err
	}
	return n, nil
}

// cutoff is the time before which things are forgotten; 0 forgets nothing.
func cutoff(now time.Time, keep, usual time.Duration) stamp {
	keep = cmp.Or(keep, usual)
	if keep < 0 {
		return 0
	}
	return stampOf(now.Add(-keep))
}

// pruning is a series of deletes that stops at the first error.
type pruning struct {
	ctx context.Context
	tx  bun.Tx
	err error
}

// drop deletes the rows of a model that lie before a time and adds them to n.
func (p *pruning) drop(n *int64, model any, where string, before stamp) {
	if p.err != nil || before <= 0 {
		return
	}
	res, err := p.tx.NewDelete().Model(model).Where(where, before).Exec(p.ctx)
	if p.err = err; err != nil {
		return
	}
	rows, err := res.RowsAffected()
	if p.err = err; n != nil {
		*n += rows
	}
}
